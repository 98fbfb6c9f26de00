"""A finished run of two tiny experiments, made by the real stages, for tests that damage it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from clclip.cli.main import main
from clclip.core.digest import canonical
from clclip.workflow.plan import RunPlan, plan_run

CARDS = ["ace", "jack", "queen", "ten"]
DETECTION = {
    "kind": "detection",
    "method": "clclip",
    "data": {
        "format": "coco",
        "root": "cards",
        "images": "images",
        "train": "train.json",
        "test": "test.json",
    },
    "tasks": [["ace", "jack"], ["queen"]],
    "training": {"epochs": 1, "image_size": 32, "augment": "none"},
    "switches": {"channels": 8, "fc_width": 16, "expert_width": 4, "scales": [1.0]},
}
CLASSIFICATION = {
    "kind": "classification",
    "method": "hpeft",
    "data": {"format": "folder", "root": "birds"},
    "tasks": [["duck", "owl"], ["tern"]],
    "training": {"epochs": 1, "batch_size": 8},
}
SEED = "results/cards/seed0"
BIRDS = "results/birds/seed0"


def picture(path: Path, size: tuple[int, int] = (64, 48), colour: int = 90) -> None:
    """Write one image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour % 256, 90, 20)).save(path)


def coco(split: str) -> dict[str, Any]:
    """Return a COCO split: three images with one box of every class on each."""
    images = [
        {"id": k, "file_name": f"{split}{k}.png", "width": 64, "height": 48} for k in (1, 2, 3)
    ]
    boxes = [
        {"id": 10 * image["id"] + k, "image_id": image["id"], "category_id": k + 1}
        | {"bbox": [12 * k, 3, 11, 20], "area": 220, "iscrowd": 0}
        for image in images
        for k in range(len(CARDS))
    ]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CARDS)]
    return {"images": images, "annotations": boxes, "categories": categories}


def make_data(work: Path) -> None:
    """Write both data sets and their experiment files."""
    for split in ("train", "test"):
        for k in (1, 2, 3):
            picture(work / "cards/images" / f"{split}{k}.png", colour=60 * k)
            for n, bird in enumerate(("duck", "owl", "tern")):
                picture(work / "birds" / split / bird / f"{k}.png", (32, 32), 70 * n + k)
        (work / "cards" / f"{split}.json").write_text(json.dumps(coco(split)))
    (work / "cards.yaml").write_text(yaml.safe_dump(DETECTION))
    (work / "birds.yaml").write_text(yaml.safe_dump(CLASSIFICATION))


def plan_of(work: Path) -> RunPlan:
    """Return the plan of both experiments."""
    return plan_run({"experiments": ["cards.yaml", "birds.yaml"]}, [work])


def calls_of(plan: RunPlan) -> list[list[str]]:
    """Return the command lines of every stage of a plan, in order, as the workflow has them."""
    calls: list[list[str]] = []
    for name, spec in plan.data.items():
        calls.append(["prepare", "--spec", canonical(spec), "--out", f"resources/data/{name}"])
    for name, clip in plan.clips.items():
        calls.append(["fetch-clip", "--clip", canonical(clip), "--out", f"resources/clip/{name}"])
    for name, text in plan.texts.items():
        out = f"resources/text/{name}.safetensors"
        clip_folder, names = f"resources/clip/{text['clip']}", canonical(text["names"])
        calls.append(["embed-text", "--clip", clip_folder, "--names", names, "--out", out])
    for name, store in plan.features.items():
        for split in ("train", "test"):
            calls.append(features_call(name, store, split))
    for experiment in plan.experiments.values():
        folders = []
        for task in experiment.tasks.values():
            file = f"{task.folder}/task.json"
            folders.append(task.folder)
            calls.append(["resolve", "--json", task.json, "--out", file])
            calls += [[s, "--task", file] for s in ("split", "train", "predict", "score")]
        seed = f"results/{experiment.name}/seed0/summary.json"
        calls.append(["aggregate", "--tasks", *folders, "--experiment", experiment.name])
        calls[-1] += ["--out", seed]
        whole = f"results/{experiment.name}/summary.json"
        calls.append(["aggregate", "--summaries", seed, "--out", whole])
    return calls


def run_all(work: Path) -> None:
    """Run every stage as the workflow would; the working directory must be ``work``."""
    calls = calls_of(plan_of(work))
    for call in calls:
        assert main(call) == 0, call
    shutil.rmtree(work / "resources/tasks")  # or stages take finished work from there
    for name in ("report.html", "summary.csv", "table.txt"):  # of an earlier run
        (work / "results" / name).write_text("old")


def features_call(name: str, store: dict[str, Any], split: str) -> list[str]:
    """Return the command that builds a feature store."""
    call = ["features", "--data", f"resources/data/{store['data']}", "--split", split]
    call += ["--clip", f"resources/clip/{store['clip']}", "--size", str(store["size"])]
    call += ["--dense", store["dense"], "--taps", ",".join(map(str, store["taps"]))]
    return [*call, "--out", f"resources/features/{name}/{split}"]


def report_call() -> list[str]:
    """Return the command that writes the report of both experiments."""
    summaries = [f"results/{name}/summary.json" for name in ("cards", "birds")]
    return ["report", "--summaries", *summaries, "--out", "results/report.html"]


def prepare_call(work: Path, **changes: Any) -> list[str]:
    """Return the command that indexes the cards anew, over the old index."""
    spec = {"id": "cards", **DETECTION["data"], "root": str(work / "cards"), **changes}
    return ["prepare", "--spec", json.dumps(spec), "--out", str(index_of(work))]


def index_of(work: Path, name: str = "cards") -> Path:
    """Return the folder of a data set's index."""
    return next((work / "resources/data").glob(f"{name}-*"))


def clip_of(work: Path) -> Path:
    """Return the folder of the CLIP."""
    return next((work / "resources/clip").iterdir())


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file in place; a value that ``change`` returns replaces the whole."""
    value = json.loads(path.read_text())
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))


def edit_yaml(path: Path, **keys: Any) -> None:
    """Replace top-level keys of a YAML file."""
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **keys}))


def edit_tensors(path: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Change a safetensors file's tensors in place, metadata kept."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="np") as file:
        tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()
    change(tensors)
    save_file(tensors, path, metadata)


def snapshot(work: Path) -> dict[str, str]:
    """Return a digest of every file but locks and the planner's cache."""
    return {
        str(path.relative_to(work)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(work.rglob("*"))
        if path.is_file() and path.name != "lock" and ".facts" not in path.parts
    }
