"""Small trained runs for the tests of models: the real stages on a dozen drawn images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import torch
import yaml
from PIL import Image, ImageDraw

from clclip.classification.features.builder import build_image_features, embed_sentences
from clclip.classification.features.layout import MOMENTS, WHOLE
from clclip.clip.features import build_features
from clclip.clip.fetch import fetch_clip
from clclip.clip.text import embed_text
from clclip.core.files import write_text
from clclip.data.prepare import prepare
from clclip.data.split import split_task
from clclip.model.change.start import predict_merged, settle, silence, take_over
from clclip.model.change.texts import take_over_texts
from clclip.model.kinds import KINDS
from clclip.training.seeds import generator
from clclip.workflow.plan import plan_run

COLOURS = {"red": "#d22", "green": "#2b2", "blue": "#22d", "gold": "#db2", "pink": "#e7b"}
NAMES = [f"{colour} square" for colour in COLOURS]
COLOURS["cyan"] = "#2cc"
IDS = {f"{colour} square": number for number, colour in enumerate(COLOURS, 3)}
SIDE = 64
FAST = {"epochs": 1, "batch_size": 4, "image_size": SIDE, "augment": "none", "warmup_steps": 0}
SMALL = {"channels": 16, "fc_width": 32, "proposals_test": 20, "roi_batch": 16}
SHORT = {"text_weight": 0.1}  # a text side that was trained for seconds knows nothing


def draw_boxes(home: Path, names: Sequence[str], count: int = 12, first: int = 1) -> Path:
    """Draw images of two squares each and write them as COCO files; return the folder."""
    (home / "images").mkdir(parents=True, exist_ok=True)
    for split, images in (("train", range(first, first + count)), ("test", range(900, 906))):
        entries, boxes = [], []
        for n in images:
            picture, g = Image.new("RGB", (96, 72), "#ccc"), generator("drawn", n)
            pen = ImageDraw.Draw(picture)
            for k in range(2):
                name = names[(n + k) % len(names)]
                side = 18 + int(torch.randint(12, (), generator=g))
                x, y = 48 * k + int(torch.randint(16, (), generator=g)), 8 + 3 * (n % 9)
                pen.rectangle((x, y, x + side, y + side), fill=COLOURS[name.split()[0]])
                label = {"image_id": n, "category_id": IDS[name], "iscrowd": 0}
                box = {"id": 10 * n + k, "bbox": [x, y, side, side], "area": side * side}
                boxes.append(label | box)
            picture.save(home / "images" / f"{n}.png")
            entries.append({"id": n, "file_name": f"{n}.png", "width": 96, "height": 72})
        categories = [{"id": IDS[name], "name": name} for name in names]
        found = {"images": entries, "annotations": boxes, "categories": categories}
        (home / f"{split}.json").write_text(json.dumps(found))
    return home


def draw_folders(home: Path, names: Sequence[str], count: int = 4) -> Path:
    """Draw one square an image into class folders; return the folder."""
    for split in ("train", "test"):
        for name in names:
            folder = home / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for n in range(count):
                picture = Image.new("RGB", (SIDE, SIDE), "#ccc")
                box = (8 + n, 8, 40 + n, 40)
                ImageDraw.Draw(picture).rectangle(box, fill=COLOURS[name.split()[0]])
                picture.save(folder / f"{n}.png")
    return home


def write_experiment(work: Path, name: str, **keys) -> Path:
    """Write an experiment file of small settings; ``keys`` are those of the file."""
    kind = keys.setdefault("kind", "detection")
    if kind == "detection":
        data = {"format": "coco", "root": "boxes", "images": "images"}
        keys.setdefault("data", data | {"train": "train.json", "test": "test.json"})
        own = SHORT if keys.get("method", "clclip") == "clclip" else {}
        keys["switches"] = SMALL | own | keys.get("switches", {})
    else:
        keys.setdefault("data", {"format": "folder", "root": "folders"})
    fast = {k: v for k, v in FAST.items() if kind == "detection" or k != "warmup_steps"}
    if kind != "detection" and KINDS[kind].methods[keys["method"]].closed_form:
        fast = {"image_size": SIDE}
    keys["training"] = fast | keys.get("training", {})
    path = work / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, **keys}, sort_keys=False))
    return path


def plan_of(path: Path):
    """Return the plan of an experiment file."""
    plan = plan_run({"experiments": [str(path)]}, [path.parent])
    return plan, next(iter(plan.experiments.values()))


def train(path: Path, upto: int | None = None) -> Path:
    """Run the stages of an experiment's tasks beside its file; return its seed's folder."""
    work, (plan, experiment) = path.parent, plan_of(path)
    resources = work / "resources"
    for clip, given in plan.clips.items():
        fetch_clip(given, resources / "clip" / clip)
    for data, spec in plan.data.items():
        if not (resources / "data" / data / "index.json").is_file():
            prepare(spec, resources / "data" / data)
    for text, entry in plan.texts.items():
        out = resources / "text" / f"{text}.safetensors"
        clip = resources / "clip" / entry["clip"]
        if "template" in entry:
            embed_sentences(clip, entry["names"], entry["template"], out)
        else:
            embed_text(clip, entry["names"], out)
        if "start" in entry:
            take_over_texts(Path(entry["start"]), out)
    for store, entry in plan.features.items():
        _features(resources, store, entry)
    seed = work / "results" / experiment.name / "seed0"
    if experiment.start is not None:
        take_over(experiment.start.place, seed / "start.json", experiment.start.card["digest"])
    for (_, number), task in experiment.tasks.items():
        if upto is None or number <= upto:
            _task(work, task, resources)
    return seed


def _features(resources: Path, store: str, entry: Mapping) -> None:
    places = resources / "data" / entry["data"], resources / "clip" / entry["clip"]
    for split in ("train", "test"):
        out = resources / "features" / store / split
        if entry["dense"] not in WHOLE:
            chosen = (entry["size"], entry["dense"], entry["taps"], entry["flip"])
            build_features(*places, split, out, *chosen)
        else:
            spread = entry["dense"] == MOMENTS
            chosen = (entry["size"], entry["flip"], entry["taps"], spread)
            build_image_features(*places, split, out, *chosen)


def _task(work: Path, task, resources: Path) -> None:
    file = work / task.folder / "task.json"
    write_text(file, task.json + "\n")
    split_task(file, resources)
    kind = KINDS[task.payload["kind"]]
    for stage in ("train", "predict", "score"):
        module = import_module(kind.module(stage, task.payload["method"]))
        run = getattr(module, stage)
        if stage == "predict" and "origins" in task.payload:
            run = predict_merged
        run(file) if stage == "score" else run(file, resources)
        if "start" in task.payload and stage == "train":
            settle(file)
        if "start" in task.payload and stage == "predict":
            silence(file)
