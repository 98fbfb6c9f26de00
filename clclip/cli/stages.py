"""The commands that the workflow's rules call, each usable without Snakemake."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from typing import Any

from clclip.config.kinds import KINDS
from clclip.core.errors import InputError
from clclip.core.files import check_writable, write_text
from clclip.core.models import parse


def from_json(text: str, option: str, kind: type) -> Any:
    """Read an option's JSON.

    Raises:
        InputError: if it is not JSON of the expected kind.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error})", option, "JSON text") from None
    if not isinstance(value, kind):
        raise InputError(f"got {type(value).__name__}", option, f"a JSON {kind.__name__}")
    return value


def resolve(options: argparse.Namespace) -> None:
    """Write task.json, whole, exactly as planned."""
    from clclip.core.digest import canonical
    from clclip.core.task import check_task

    task = from_json(options.json, "--json", dict)
    check_task(task, "--json")
    write_text(options.out, canonical(task) + "\n")


def prepare(options: argparse.Namespace) -> None:
    """Generate or verify and index a data set."""
    from clclip.data.prepare import prepare as run

    run(from_json(options.spec, "--spec", dict), options.out)


def fetch_clip(options: argparse.Namespace) -> None:
    """Put a CLIP in place."""
    from clclip.clip.fetch import fetch_clip as run

    run(from_json(options.clip, "--clip", dict), options.out)


def pretrain_clip(options: argparse.Namespace) -> None:
    """Make the embedded CLIP again."""
    check_writable(options.out, folder=True)
    from clclip.clip.embedded.pretrain import pretrain_clip as run

    given = {} if options.steps is None else {"steps": options.steps}
    run(options.out, seed=options.seed, name=options.name, **given)


def embed_text(options: argparse.Namespace) -> None:
    """Embed class names."""
    names = from_json(options.names, "--names", list)
    if options.template is not None:
        from clclip.classification.features.builder import embed_sentences

        return embed_sentences(options.clip, names, options.template, options.out)
    from clclip.clip.text import embed_text as run

    run(options.clip, names, options.out)


def split(options: argparse.Namespace) -> None:
    """Write train.json and test.json of a task."""
    from clclip.data.split import split_task

    split_task(options.task, options.resources)


def _stored(options: argparse.Namespace, stage: str, names: list[str]) -> None:
    """Run ``train`` or ``predict`` unless the same work was done before."""
    from clclip.config.resolve import check_settings
    from clclip.core.task import read_task
    from clclip.workflow.fingerprint import stage_fingerprint
    from clclip.workflow.gpu_slots import devices
    from clclip.workflow.task_store import stored, training_slice

    given = read_task(options.task)
    check_settings(given, options.task)
    task = training_slice(given)  # with the method that the first task is told as
    kind = KINDS[task["kind"]]
    if options.attempt < 1:
        raise InputError(f"got {options.attempt}", "--attempt", "a number from 1")
    code = stage_fingerprint(stage, kind.name, task["method"])

    def work() -> None:
        # only who really works takes a device, and before torch looks at them
        with devices(getattr(options, "devices", 1)):
            stages = import_module(kind.module(stage, task["method"]))
            alone = kind.methods[task["method"]].closed_form
            if stage == "predict":
                stages.predict(options.task, options.resources)
            elif options.devices * options.nodes == 1 or alone:
                stages.train(options.task, options.resources, attempt=options.attempt)
            else:
                from clclip.training.launch import launch

                spread = (options.attempt, options.devices, options.nodes, options.log)
                launch(stages.__name__, options.task, options.resources, *spread)

    stored(options.task, options.resources, stage, code, names, work)


def train(options: argparse.Namespace) -> None:
    """Train a task: weights.safetensors and history.csv beside its task.json."""
    from clclip.training.tracking import check_access

    for option in ("devices", "nodes"):
        if getattr(options, option) < 1:
            raise InputError(f"got {getattr(options, option)}", f"--{option}", "a number from 1")
    check_access()
    _stored(options, "train", ["weights.safetensors", "history.csv"])
    _predict_ahead(options)


def _predict_ahead(options: argparse.Namespace) -> None:
    """Put the predictions of a short task into the store, where the job `predict` finds them.

    They stay that job's to write beside the task. A closed-form task needs no torch, so it has
    nothing to save; the features of its test images may not be there yet.
    """
    from clclip.core.task import read_task

    folder, task = options.task.parent, read_task(options.task)
    kind = KINDS[task["kind"]]
    if not kind.predicts_with_training or kind.methods[task["method"]].closed_form:
        return
    if not (folder / "test.json").exists():
        return
    _stored(options, "predict", list(kind.predictions))
    for name in kind.predictions:
        (folder / name).unlink()


def predict(options: argparse.Namespace) -> None:
    """Predict the test images of a task: predictions.json beside its task.json."""
    from clclip.core.task import read_task

    kind = KINDS[read_task(options.task)["kind"]]
    _stored(options, "predict", list(kind.predictions))


def score(options: argparse.Namespace) -> None:
    """Score a task's predictions: scores.json beside its task.json."""
    from clclip.evaluation.score import score as run
    from clclip.training.tracking import track_scores

    run(options.task)
    track_scores(options.task, options.resources)


def aggregate(options: argparse.Namespace) -> None:
    """Summarise a seed (``--tasks``) or an experiment (``--summaries``)."""
    from clclip.evaluation.aggregate import aggregate_experiment, aggregate_seed

    if (options.tasks is None) == (options.summaries is None):
        expected = "either the task folders of a seed or the summaries of the seeds"
        raise InputError("got both or neither", "--tasks, --summaries", expected)
    if options.summaries is not None:
        aggregate_experiment(options.summaries, options.out)
        return
    if options.experiment is None:
        raise InputError("no name", "--experiment", "the experiment's name beside --tasks")
    aggregate_seed(
        options.tasks, options.out, options.experiment, options.dataset, options.protocol
    )


def report(options: argparse.Namespace) -> None:
    """Write the report; by hand, print the table too (the workflow prints it at its end)."""
    from clclip.config.run import ReportStyle
    from clclip.report.page import report as run

    style = parse(ReportStyle, from_json(options.style, "--style", dict), "--style")
    table = run(options.summaries, options.out, style.model_dump())
    if options.log is None:
        print(f"{table}\nreport: {options.out}")
