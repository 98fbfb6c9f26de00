"""Folders of tasks with made-up predictions, for the tests of scores and summaries."""

from __future__ import annotations

import json

GROUPS = [["cat", "dog"], ["eel"], ["fox"]]
NAMES = ["cat", "dog", "eel", "fox"]
IDS = {"cat": 3, "dog": 1, "eel": 90, "fox": 0}
REST = {"text": {}, "training": {}, "switches": {}}
# One object per class on its own image (ids 100..103); a second cat on the dog's image.
OBJECTS = [(100, "cat"), (101, "dog"), (102, "eel"), (103, "fox"), (101, "cat")]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def detection(
    folder, number, found, seed=0, evaluation=None, method="clclip", objects=OBJECTS, groups=None
):
    """Write the files of one task; ``found`` are (image, class, right?, score)."""
    groups = groups or GROUPS[:number]
    task = {"kind": "detection", "method": method, "seed": seed, "task": number, "groups": groups}
    task |= {"trains": "all"} if method == "joint" else {}
    task |= {"data": {"id": "zoo-1"}, "clip": {"id": "embedded-1"}, "evaluation": {}} | REST
    write(folder / "task.json", task | ({"evaluation": evaluation} if evaluation else {}))
    boxes = {name: [10 * k, 0, 10, 10] for k, name in enumerate(NAMES)}
    test = {
        "images": [{"id": i, "width": 64, "height": 64} for i in range(100, 104)],
        "categories": [{"id": IDS[n], "name": n} for n in NAMES],
        "annotations": [
            {"id": k, "image_id": i, "category_id": IDS[n], "bbox": boxes[n], "area": 100}
            for k, (i, n) in enumerate(objects)
        ],
    }
    write(folder / "test.json", test)
    rows = [
        {"image_id": i, "category_id": IDS[n], "score": s}
        | {"bbox": boxes[n] if right else [40, 40, 9, 9]}
        for i, n, right, s in found
    ]
    write(folder / "predictions.json", rows)
    return folder / "task.json"


PERFECT = [(i, n, True, 0.9) for i, n in OBJECTS]


def read(path):
    return json.loads(path.read_text())


def by_class(folder):
    """Return class -> score of a folder's scores.json."""
    return {name: row["score"] for name, row in read(folder / "scores.json")["per_class"].items()}


def classification(folder, number, guesses, seed=0, labels=None):
    """Write a classification task; ``guesses`` are the predicted names of images 0, 1, ..."""
    groups = GROUPS[:number]
    names = [n for g in groups for n in g]
    labels = labels or ["cat", "cat", "cat", "dog", "eel", "eel"][: len(guesses)]
    task = {"kind": "classification", "method": "seca", "seed": seed, "task": number}
    task |= {"groups": groups, "data": {"id": "zoo-1"}, "clip": {"id": "c"}, "evaluation": {}}
    write(folder / "task.json", task | REST)
    images = [{"id": i, "file_name": f"{i}.png", "label": n} for i, n in enumerate(labels)]
    write(folder / "test.json", {"classes": NAMES, "images": images})
    rows = [[0.7 if n == g else 0.1 for n in names] for g in guesses]
    data = {"classes": names, "images": list(range(len(labels))), "labels": labels}
    write(folder / "predictions.json", data | {"probabilities": rows})
    return folder / "task.json"
