"""Stand-ins for the stages: each writes the files of its rule, from its inputs' bytes."""

import hashlib
import json
import os
import time
from pathlib import Path


def _stamp(*inputs: Path) -> str:
    """Return text that changes with the inputs and with nothing else."""
    total = hashlib.sha256()
    for path in inputs:
        total.update(path.read_bytes())
    return total.hexdigest()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def prepare(options):
    _write(options.out / "index.json", options.spec)


def fetch_clip(options):
    _write(options.out / "clip.safetensors", options.clip)
    _write(options.out / "clip.json", options.clip)


def embed_text(options):
    _write(options.out, options.names)


def features(options):
    _write(options.out / "done.json", options.dense)


def split(options):
    groups = json.loads(options.task.read_text())["groups"]
    _write(options.task.parent / "train.json", json.dumps(groups))
    _write(options.task.parent / "test.json", json.dumps(groups))


def train(options):
    from clclip.cli.stored import stored_stage

    stored_stage(options, "train", ["weights.safetensors", "history.csv"])


def predict(options):
    from clclip.cli.stored import stored_stage

    stored_stage(options, "predict", ["predictions.json"])


class StubStages:
    """What ``clclip.cli.stored`` imports in place of a kind's stages."""

    @staticmethod
    def train(task_file, resources, **_):
        # long enough to be killed, where a test asks for it
        time.sleep(float(os.environ.get("STUB_SECONDS", "0")))
        with Path("trained.txt").open("a") as record:
            record.write(f"{task_file}\n")
        folder = task_file.parent
        number = json.loads(task_file.read_text())["task"]
        before = [folder.parent / f"task{k}" / "weights.safetensors" for k in range(1, number)]
        _write(folder / "weights.safetensors", _stamp(folder / "train.json", *before))
        _write(folder / "history.csv", "step\n")

    @staticmethod
    def predict(task_file, resources):
        folder = task_file.parent
        stamp = _stamp(folder / "weights.safetensors", folder / "test.json")
        _write(folder / "predictions.json", json.dumps([stamp]))


def score(options):
    folder = options.task.parent
    _write(folder / "scores.json", _stamp(folder / "predictions.json"))


def aggregate(options):
    _write(options.out, json.dumps({"experiment": options.experiment}))


def unseen(options):
    weights = sorted(options.run.glob("task*/weights.safetensors"))
    _write(options.out, json.dumps([_stamp(*weights)]))


def report(options):
    _write(options.out, options.style)
    _write(options.out.parent / "summary.csv", "experiment\n")


STUBS = {
    "prepare": prepare,
    "fetch-clip": fetch_clip,
    "embed-text": embed_text,
    "features": features,
    "split": split,
    "train": train,
    "predict": predict,
    "score": score,
    "aggregate": aggregate,
    "unseen": unseen,
    "report": report,
}


def use_stubs():
    """Let the commands of the stages do what the stand-ins do."""
    from dataclasses import replace

    from clclip.cli import stored
    from clclip.cli.command import commands

    stored.import_module = lambda name: StubStages
    for name, run in STUBS.items():
        commands()[name] = replace(commands()[name], run=run)
