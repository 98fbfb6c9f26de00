"""Bad results and files between stages: name -> (damage, command, parts of the message)."""

from __future__ import annotations

import math
from pathlib import Path

from tests.helpers.bad_input.files import IMAGE, cut, features_marker
from tests.helpers.bad_input.weights import stage
from tests.helpers.bad_input.world import BIRDS, SEED, edit_json, index_of, report_call


def edit(name: str, change):
    """Return a damage that changes a JSON file."""
    return lambda work: edit_json(work / name, change)


def put(*path, value):
    """Return a change of one value."""

    def change(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


def drop(key: str):
    """Return a change that removes a key."""
    return lambda data: (data.pop(key) is None and None) or data


PREDICTIONS, TEST = f"{SEED}/task2/predictions.json", f"{SEED}/task2/test.json"
PROBABILITIES = f"{BIRDS}/task2/predictions.json"
ROW = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}
SUMMARY = "results/cards/summary.json"
TASK, SCORES = f"{SEED}/task2/task.json", f"{SEED}/task1/scores.json"
bird_score = stage("score", 2, BIRDS)


def aggregate(work: Path) -> list[str]:
    call = ["aggregate", "--tasks", f"{SEED}/task1", f"{SEED}/task2", "--experiment", "cards"]
    return [*call, "--out", f"{SEED}/summary.json"]


def over_seeds(work: Path) -> list[str]:
    return ["aggregate", "--summaries", f"{SEED}/summary.json", "--out", SUMMARY]


def compare(work: Path) -> list[str]:
    return ["compare", "cards", "birds", "--samples", "10"]


def index(change):
    return lambda work: edit_json(index_of(work) / "index.json", change)


def report(work: Path) -> list[str]:
    return report_call()


def rows(*found):
    return edit(PREDICTIONS, lambda data: [{**ROW, **row} for row in found])


def other_task(work: Path) -> None:
    """Task 2 of another configuration: other classes in its task file."""
    edit_json(work / f"{SEED}/task2/task.json", put("groups", value=[["ten"], ["queen"]]))


def out_is_folder(work: Path) -> None:
    (work / f"{SEED}/task2/scores.json").unlink()
    (work / f"{SEED}/task2/scores.json").mkdir()


def parent_is_file(work: Path) -> list[str]:
    return ["detect", "--run", SEED, IMAGE, "--out", "cards.yaml/found"]


def export_to(out: str):
    return lambda work: ["export", "--run", SEED, "--out", out]


RESULTS = {
    "predictions gone": (lambda w: (w / PREDICTIONS).unlink(), stage("score"), ["no such file"]),
    "predictions cut": (cut(PREDICTIONS, 5), stage("score"), ["not JSON", PREDICTIONS]),
    "predictions an object": (edit(PREDICTIONS, lambda d: {}), stage("score"), ["a list of COCO"]),
    "not a result": (
        edit(PREDICTIONS, lambda d: [1]),
        stage("score"),
        ["not a COCO result", "[0]"],
    ),
    "unknown image": (rows({"image_id": 77}), stage("score"), ["image_id 77", "test image"]),
    "image id a list": (rows({"image_id": [1]}), stage("score"), ["image_id [1]", "test image"]),
    "category a list": (rows({"category_id": [1]}), stage("score"), ["category_id [1]"]),
    "unseen class": (rows({"category_id": 4}), stage("score"), ["category_id 4", "seen so far"]),
    "score NaN": (rows({"score": math.nan}), stage("score"), ["score nan", "finite"]),
    "score text": (rows({"score": "1"}), stage("score"), ["score '1'", "finite"]),
    "box infinite": (rows({"bbox": [0, 0, math.inf, 1]}), stage("score"), ["bbox", "finite"]),
    "box negative": (rows({"bbox": [0, 0, -1, 1]}), stage("score"), ["bbox", "at least 0"]),
    "of another config": (other_task, stage("score"), ["'ten'", "test.json"]),
    "test list a list": (edit(TEST, lambda d: []), stage("score"), ["test.json", "clclip split"]),
    "test list without images": (edit(TEST, drop("images")), stage("score"), ["'images'", TEST]),
    "columns of another run": (
        edit(PROBABILITIES, put("classes", value=["owl", "duck", "tern"])),
        bird_score,
        ["columns", "the seen classes in order"],
    ),
    "probabilities short": (
        edit(PROBABILITIES, put("probabilities", 0, value=[1.0])),
        bird_score,
        ["probabilities of image", "3 finite numbers"],
    ),
    "probabilities null": (
        edit(PROBABILITIES, put("probabilities", value=None)),
        bird_score,
        ["predictions.json", "list"],
    ),
    "an image twice": (
        edit(PROBABILITIES, lambda d: d["images"].__setitem__(1, d["images"][0])),
        bird_score,
        ["an image twice", "every test image once"],
    ),
    "scores without metrics": (
        edit(f"{SEED}/task1/scores.json", drop("metrics")),
        aggregate,
        ["'metrics'", "scores.json", "clclip score"],
    ),
    "scores gone": (lambda w: (w / f"{SEED}/task1/scores.json").unlink(), aggregate, ["no such"]),
    "scores a list": (edit(f"{SEED}/task1/scores.json", lambda d: []), aggregate, ["scores.json"]),
    "tasks of two seeds": (
        edit(f"{SEED}/task2/task.json", put("seed", value=5)),
        aggregate,
        ["seed 5", "0 as in task 1"],
    ),
    "summary of a seed cut": (cut(f"{SEED}/summary.json", 9), over_seeds, ["not JSON"]),
    "summary without final": (
        edit(f"{SEED}/summary.json", drop("final")),
        over_seeds,
        ["'final'", "summary.json", "clclip aggregate"],
    ),
    "report of half a summary": (cut(SUMMARY, 40), report, ["not JSON", SUMMARY]),
    "report of another file": (edit(SUMMARY, lambda d: [1]), report, ["summary", SUMMARY]),
    "report of a summary without tasks": (edit(SUMMARY, drop("tasks")), report, ["tasks", SUMMARY]),
    "style unknown": (
        lambda w: None,
        lambda w: [*report_call(), "--style", '{"palette": "no such"}'],
        ["'no such'", "palette"],
    ),
    "compare unlike kinds": (lambda w: None, compare, ["birds"]),
    "compare what is not there": (
        lambda w: None,
        lambda w: ["compare", "cards", "cardz"],
        ["cardz"],
    ),
    "index without classes": (index(drop("classes")), stage("split"), ["'classes'", "prepare"]),
    "index a list": (index(lambda d: []), stage("split"), ["index.json", "clclip prepare"]),
    "index of other classes": (
        index(put("classes", value=["ace"])),
        stage("split"),
        ["'jack'", "does not declare"],
    ),
    "training list cut": (cut(f"{SEED}/task2/train.json", 30), stage("train"), ["not JSON"]),
    "training list without boxes": (
        edit(f"{SEED}/task2/train.json", drop("annotations")),
        stage("train"),
        ["'annotations'", "train.json", "clclip split"],
    ),
    "task file cut": (cut(f"{SEED}/task2/task.json", 30), stage("score"), ["not JSON"]),
    "task file of another kind": (
        edit(f"{SEED}/task2/task.json", put("kind", value="poetry")),
        stage("score"),
        ["'poetry'", "detection or classification"],
    ),
    "task file without a seed": (
        edit(f"{SEED}/task2/task.json", drop("seed")),
        stage("train"),
        ["missing key 'seed'"],
    ),
    "task file with classes as numbers": (
        edit(f"{SEED}/task2/task.json", put("groups", value=[["ace", "jack"], [3]])),
        stage("split"),
        ["groups", "class names"],
    ),
    "task file of an older version": (
        edit(TASK, lambda d: d["switches"].pop("channels") and None),
        stage("train"),
        ["no key 'channels'", "task.json: switches", "clclip resolve"],
    ),
    "task file without settings": (
        edit(TASK, put("training", value={})),
        stage("predict"),
        ["no key 'epochs'", "task.json: training"],
    ),
    "task file with a rate of text": (
        edit(TASK, put("training", "lr", value="x")),
        stage("train"),
        ["'x'", "task.json: training: lr", "number"],
    ),
    "task file with a switch of text": (
        edit(TASK, put("switches", "channels", value="x")),
        stage("predict"),
        ["'x'", "task.json: switches: channels", "whole number"],
    ),
    "task file without features": (
        edit(TASK, drop("features")),
        stage("train"),
        ["None", "task.json: features", "clclip resolve"],
    ),
    "task file with a number far off": (
        edit(TASK, put("task", value=10**9)),
        stage("predict"),
        ["got task 1000000000", "2, as its groups tell"],
    ),
    "task file with true for a number": (
        edit(TASK, put("task", value=True)),
        stage("score"),
        ["got task True", "a number from 1"],
    ),
    "task file with a seed of text": (
        edit(TASK, put("seed", value="x")),
        stage("train"),
        ["got seed 'x'", "a whole number"],
    ),
    "task file with a class twice": (
        edit(TASK, put("groups", value=[["ace"], ["ace"]])),
        stage("split"),
        ["class 'ace' twice", "task.json"],
    ),
    "classifier's task file without settings": (
        edit(f"{BIRDS}/task2/task.json", put("training", value={})),
        stage("train", 2, BIRDS),
        ["no key 'epochs'", "task.json: training"],
    ),
    "test list with a null": (
        edit(TEST, put("annotations", value=[None])),
        stage("score"),
        ["got None", "annotations.0", "clclip split"],
    ),
    "test list with half a box": (
        edit(TEST, put("annotations", 0, "bbox", value=[1])),
        stage("score"),
        ["got [1]", "annotations.0.bbox", "at least 4"],
    ),
    "score of 400 digits": (rows({"score": 10**400}), stage("score"), ["score 1000", "finite"]),
    "scores not finite": (
        edit(SCORES, put("metrics", "C", value=math.nan)),
        aggregate,
        ["got nan", "metrics.C", "finite", "clclip score"],
    ),
    "scores of text": (
        edit(SCORES, put("metrics", "C", value="5")),
        aggregate,
        ["got '5'", "metrics.C", "a number"],
    ),
    "scores by class a list": (
        edit(SCORES, put("per_class", value=[])),
        aggregate,
        ["got []", "per_class", "a mapping"],
    ),
    "scores by class of an older version": (
        edit(SCORES, put("per_class", value={"ace": 5.0})),
        aggregate,
        ["got 5.0", "per_class.ace", "clclip score"],
    ),
    "scores of other classes": (
        edit(SCORES, put("per_class", value={"emu": {"score": 5.0, "objects": 1}})),
        aggregate,
        ["'ace'", "scores.json"],
    ),
    "report of tasks of text": (
        edit(SUMMARY, put("tasks", value="x")),
        report,
        ["got 'x'", "tasks", "a list"],
    ),
    "report without numbers": (
        edit(SUMMARY, put("final", value=None)),
        report,
        ["got None", "final", "a mapping"],
    ),
    "report of a matrix of text": (
        edit(SUMMARY, put("matrix", value=[["x"]])),
        report,
        ["got 'x'", "matrix.0.0", "a number"],
    ),
    "report of seeds that are none": (
        edit(SUMMARY, put("seeds", value=7)),
        report,
        ["got 7", "seeds", "a list"],
    ),
    "report of another kind": (
        edit(SUMMARY, put("kind", value="poetry")),
        report,
        ["got 'poetry'", "kind", "'detection' or 'classification'"],
    ),
    "report of a task that is a number": (
        edit(SUMMARY, put("tasks", 0, value=3)),
        report,
        ["got 3", "tasks.0", "a mapping"],
    ),
    "features without a list": (
        lambda w: edit_json(features_marker(w), drop("images")),
        stage("train"),
        ["'images'", "done.json", "clclip features"],
    ),
    "features cut": (
        lambda w: (features_marker(w).parent / "dense.npy").write_bytes(b"\x93NUMPY"),
        stage("train"),
        ["damaged features", "dense.npy"],
    ),
    "output is a folder": (out_is_folder, stage("score"), ["cannot be written", "scores.json"]),
    "folder of the output is a file": (
        lambda w: None,
        parent_is_file,
        ["cannot be written", "cards.yaml"],
    ),
    "export to the folder itself": (
        lambda w: None,
        export_to("."),
        ["no folder name ('.')", "--out"],
    ),
    "export to the root": (lambda w: None, export_to("/"), ["no folder name ('/')", "--out"]),
    "export to a weights file": (
        lambda w: None,
        export_to("model.safetensors"),
        ["file name ('model.safetensors')", "--out model/"],
    ),
    "export over other things": (lambda w: None, export_to("cards"), ["other things", "cards"]),
    "export to the folder above": (lambda w: None, export_to(".."), ["no folder name ('..')"]),
    "log on a full device": (
        lambda w: None,
        lambda w: [*stage("score")(w), "--log", "/dev/null/score.log"],
        ["cannot write", "--log"],
    ),
}


CASES = {f"results: {name}": case for name, case in RESULTS.items()}
