"""Published classification streams: schedules, layouts of the data, what bad streams are told."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clclip.classification.options import ClassificationOptions
from clclip.classification.registry import METHODS
from clclip.config.experiment import Experiment
from clclip.config.names import known_names
from clclip.core.errors import InputError
from clclip.data.readers.cifar import CIFAR100_CLASSES
from clclip.workflow.describe import describe
from clclip.workflow.plan import RunPlan, add_experiment, plan_run

ROOT = Path(__file__).parents[3]
PUBLISHED = {
    "cifar100_10x10": (3, 100, [0.667], 10, 10),
    "cifar100_20x5": (3, 100, [0.667], 20, 5),
    "imagenet_r_10x20": (10, 64, [0.2, 0.5], 10, 20),
    "imagenet_r_20x10": (10, 64, [0.2, 0.5], 20, 10),
    "imagenet_a_10x20": (10, 64, [0.4, 0.8], 10, 20),
    "imagenet_a_20x10": (10, 64, [0.4, 0.8], 20, 10),
}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """CIFAR-100 in its binary layout, ImageNet-R and -A as folders of 200 numbered classes."""
    root = tmp_path_factory.mktemp("data")
    cifar = root / "cifar100" / "cifar-100-binary"
    cifar.mkdir(parents=True)
    labels = np.arange(100, dtype=np.uint8)
    for name, copies in (("train", 2), ("test", 1)):
        records = np.zeros((100 * copies, 3074), np.uint8)
        records[:, 1] = np.tile(labels, copies)
        (cifar / f"{name}.bin").write_bytes(records.tobytes())
    (cifar / "fine_label_names.txt").write_text("\n".join(CIFAR100_CLASSES))
    picture = root / "picture.png"
    Image.new("RGB", (8, 8), (200, 30, 30)).save(picture)
    for name in ("imagenet-r", "imagenet-a"):
        folders = [f"n{k:08d}" for k in range(200)]
        for split, count in (("train", 2), ("val", 1)):
            for folder in folders:
                (root / name / split / folder).mkdir(parents=True)
                for k in range(count):
                    (root / name / split / folder / f"{k}.png").hardlink_to(picture)
        names = "\n".join(f"thing {k}" for k in range(200))  # in the order of the folders
        (root / name / "class_names.txt").write_text(names)
    return root


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_stream_is_planned_with_its_schedule(name, data_root):
    epochs, batch, milestones, tasks, classes = PUBLISHED[name]
    plan = plan_run({"experiments": [f"{name}_seca"], "data_root": str(data_root)})
    planned = plan.experiments[f"{name}_seca"]
    assert planned.length == tasks
    last = planned.tasks[0, tasks].payload
    assert [len(group) for group in last["groups"]] == [classes] * tasks
    assert len({c for group in last["groups"] for c in group}) == tasks * classes
    expected = {"epochs": epochs, "batch_size": batch, "milestones": milestones, "lr": 1e-3}
    expected |= {"schedule": "multistep", "optimizer": "adam", "weight_decay": 5e-4}
    expected |= {
        "warmup_steps": 0,
        "min_steps": 0,
        "grad_clip": None,
        "augment": "none",
        "image_size": None,
    }
    assert {key: last["training"][key] for key in expected} == expected
    published = {"adapter_width": 16, "adapter_scale": 0.1, "prompt_length": 8, "prompt_lr": 0.5}
    published |= {"pool": 5, "beta_scale": 1.0, "gamma": None, "inference_scale": 20.0}
    assert {key: last["switches"][key] for key in published} == published
    other = plan_run({"experiments": [f"{name}_seca"], "data_root": str(data_root), "seeds": [1]})
    assert other.experiments[f"{name}_seca"].tasks[1, tasks].payload["groups"] != last["groups"]


@pytest.mark.parametrize(
    ("name", "images"),
    [("cifar100_20x5", None), ("imagenet_a_10x20", {"train": 400, "test": 200})],
)
def test_describe_finds_the_data(name, images, data_root):
    found = describe(f"{name}_seca", data_root=str(data_root))
    assert len(found["tasks"]) == PUBLISHED[name][3]
    assert found["data"]["there"] and found["data"]["images"] == images  # CIFAR's: once unpacked


def test_dry_run_of_the_published_streams(data_root, tmp_path):
    names = "cifar100_10x10_seca,imagenet_r_10x20_seca"
    config = [f"experiments={names}", f"data_root={data_root}"]
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-n", "--quiet"]
    done = subprocess.run(
        [*command, "rules", "--cores", "1", "--directory", str(tmp_path), "--config", *config],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^(\w+)\s+(\d+)$", done.stdout + done.stderr, re.MULTILINE))
    assert counts["train_task"] == counts["predict_task"] == "20"
    assert counts["prepare_data"] == "2" and counts["fetch_clip"] == "1"


def test_ablations_are_configs():
    """Every value of the switches that the paper compares is an experiment of its own."""
    names = [name for name in known_names() if name.startswith("shapes_cil_8x5_")]
    planned = plan_run({"experiments": sorted(names)}).experiments
    last = [plan.tasks[0, plan.length].payload for plan in planned.values()]
    assert {task["method"] for task in last} == set(METHODS)
    last = [task for task in last if not METHODS[task["method"]].closed_form]
    for switch in ("distillation", "classifier", "evict", "relevance"):
        values = ClassificationOptions.model_json_schema()["properties"][switch]["enum"]
        assert {task["switches"].get(switch) for task in last} - {None} == set(values)
    shared = ("training", "data", "clip", "groups")
    plain = [plan for name, plan in planned.items() if not name.endswith("_tuned")]
    tasks = [plan.tasks[0, plan.length].payload for plan in plain]
    by_method = {task["method"]: task for task in tasks}
    for key in shared:
        assert by_method["hpeft"][key] == by_method["seca"][key] == by_method["joint"][key]


STREAMS = {
    "a class twice": ([["ant", "bee"], ["bee", "cow"]], ["'bee'", "tasks"]),
    "a class that is not there": ([["ant", "bee"], ["ox"]], ["'ox'", "not in the data"]),
    "more tasks than classes": ([["ant"], ["bee"], ["cow"], []], ["tasks"]),
}


@pytest.mark.parametrize("case", STREAMS)
def test_streams_that_cannot_be_are_told_in_one_line(case, tmp_path):
    groups, words = STREAMS[case]
    folder = _folder(tmp_path)
    file = tmp_path / "mine.yaml"
    values = {"kind": "classification", "method": "seca", "tasks": groups, "data": folder}
    file.write_text(json.dumps(values))
    with pytest.raises(InputError) as told:
        plan_run({"experiments": [str(file)]})
    message = str(told.value)
    assert "\n" not in message and all(word in message for word in words)


def test_a_protocol_with_more_classes_than_the_data(tmp_path):
    experiment = Experiment(
        name="mine",
        kind="classification",
        method="seca",
        protocol="imagenet_r_20x10",
        data=_folder(tmp_path),
    )
    with pytest.raises(InputError, match=r"3 classes in the data.*at least 200"):
        add_experiment(RunPlan(), experiment, [0], tmp_path, "mine.yaml")


def _folder(home: Path) -> dict:
    """Make an image folder of three classes; return its declaration."""
    for split in ("train", "test"):
        for k, name in enumerate(("ant", "bee", "cow")):
            (home / "animals" / split / name).mkdir(parents=True)
            for n in range(2):
                picture = Image.new("RGB", (8, 8), (40 * k, 90 * n, 7))
                picture.save(home / "animals" / split / name / f"{n}.png")
    return {"format": "folder", "root": "animals"}
