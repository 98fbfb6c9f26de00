"""Scores of a task from its files, summaries of seeds and experiments, and refused input."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from clclip.errors import InputError
from clclip.evaluation.aggregate import aggregate_experiment, aggregate_seed, write_summary_csv
from clclip.evaluation.score import score

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


def test_previous_current_all(tmp_path):
    found = [(100, "cat", True, 0.9), (102, "eel", True, 0.8), (103, "eel", False, 0.9)]
    score(detection(tmp_path, 2, found))
    scores = read(tmp_path / "scores.json")
    assert scores["per_class"] == {
        "cat": {"score": 50.0, "objects": 2},
        "dog": {"score": 0.0, "objects": 1},
        "eel": {"score": 50.0, "objects": 1},
    }
    assert scores["metrics"] == {"P": 25.0, "C": 50.0, "A": pytest.approx(100 / 3)}
    assert scores["metric"] == "AP50 (area)" and scores["images"] == "full"
    assert scores["empty_classes"] == []


def test_first_task_has_no_previous_classes(tmp_path):
    score(detection(tmp_path, 1, [(100, "cat", True, 0.9), (101, "cat", True, 0.8)]))
    assert read(tmp_path / "scores.json")["metrics"] == {"P": None, "C": 50.0, "A": 50.0}


def test_group_images_hide_false_positives_elsewhere(tmp_path):
    found = [*PERFECT[:3], PERFECT[4], (100, "eel", False, 0.95), (103, "dog", False, 0.95)]
    score(detection(tmp_path, 2, found, evaluation={"images": "group"}))
    grouped = read(tmp_path / "scores.json")
    assert grouped["metrics"]["C"] == 100.0
    assert grouped["metrics"]["P"] == 100.0
    assert grouped["metrics"]["A"] == pytest.approx((100 + 100 + 50) / 3)
    score(detection(tmp_path, 2, found))
    full = read(tmp_path / "scores.json")["metrics"]
    assert full == {"P": 75.0, "C": 50.0, "A": pytest.approx(200 / 3)}


def test_coco_flavour_averages_over_overlaps(tmp_path):
    task = detection(tmp_path, 1, PERFECT[:2], evaluation={"ap": "coco"}, objects=OBJECTS[:2])
    rows = read(tmp_path / "predictions.json")
    rows[0]["bbox"] = [0, 0, 10, 8]  # IoU 0.8: right at 7 of the 10 thresholds
    write(tmp_path / "predictions.json", rows)
    score(task)
    scores = read(tmp_path / "scores.json")
    assert by_class(tmp_path) == {"cat": pytest.approx(70.0), "dog": pytest.approx(100.0)}
    assert scores["metric"] == "AP[.50:.95]"
    assert scores["other_metrics"]["AP50 (area)"]["A"] == pytest.approx(100.0)
    task.write_text(json.dumps(read(task) | {"evaluation": {}}))
    score(task)
    others = read(tmp_path / "scores.json")["other_metrics"]
    assert others["AP[.50:.95]"] == {"P": None, "C": pytest.approx(85.0), "A": pytest.approx(85.0)}


def test_class_without_objects_is_null_and_listed(tmp_path):
    score(detection(tmp_path, 2, [(100, "cat", True, 0.9)], objects=OBJECTS[:1]))
    scores = read(tmp_path / "scores.json")
    assert scores["per_class"] == {
        "cat": {"score": 100.0, "objects": 1},
        "dog": {"score": None, "objects": 0},
        "eel": {"score": None, "objects": 0},
    }
    assert scores["metrics"] == {"P": 100.0, "C": None, "A": 100.0}
    assert scores["empty_classes"] == ["dog", "eel"]


def test_no_predictions_is_zero(tmp_path):
    score(detection(tmp_path, 2, []))
    assert read(tmp_path / "scores.json")["metrics"] == {"P": 0.0, "C": 0.0, "A": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999}, "image_id 999"),
        ({"category_id": 77}, "category_id 77"),
        ({"category_id": 0}, "category_id 0"),  # declared, but of a later task
        ({"score": float("nan")}, "score nan"),
        ({"score": None}, "score None"),
        ({"bbox": [0, 0, float("inf"), 1]}, "bbox"),
        ({"bbox": [0, 0, -1, 1]}, "bbox"),
        ({"bbox": [0, 0, 1]}, "bbox"),
    ],
)
def test_bad_predictions_are_refused(tmp_path, change, message):
    task = detection(tmp_path, 2, PERFECT[:3])
    rows = read(tmp_path / "predictions.json")
    rows[1] |= change
    write(tmp_path / "predictions.json", rows)
    with pytest.raises(InputError, match=message) as error:
        score(task)
    assert "predictions.json[1]" in str(error.value)
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize("content", [None, "[", '{"a": 1}', "[3]"])
def test_missing_or_broken_predictions_are_refused(tmp_path, content):
    task = detection(tmp_path, 1, [])
    (tmp_path / "predictions.json").unlink()
    if content is not None:
        (tmp_path / "predictions.json").write_text(content)
    with pytest.raises(InputError, match=r"predictions\.json"):
        score(task)


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


def test_accuracy_counts_images(tmp_path):
    score(classification(tmp_path, 2, ["cat", "cat", "eel", "dog", "eel", "dog"]))
    scores = read(tmp_path / "scores.json")
    assert scores["per_class"]["cat"] == {"score": pytest.approx(200 / 3), "objects": 3}
    assert by_class(tmp_path) == {"cat": pytest.approx(200 / 3), "dog": 100.0, "eel": 50.0}
    assert scores["metrics"] == {"P": 75.0, "C": 50.0, "A": pytest.approx(400 / 6)}
    assert scores["metric"] == "accuracy"


def test_equal_probabilities_take_the_first_column(tmp_path):
    task = classification(tmp_path, 2, ["cat"] * 6)
    data = read(tmp_path / "predictions.json")
    data["probabilities"] = [[0.5, 0.5, 0.5]] * 6
    write(tmp_path / "predictions.json", data)
    score(task)
    assert by_class(tmp_path) == {"cat": 100.0, "dog": 0.0, "eel": 0.0}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", ["cat", "dog"], "columns"),
        ("images", [0, 0, 2, 3, 4, 5], "twice"),
        ("images", [0, 1, 2, 3, 4, 9], "left out"),
        ("labels", ["dog", "cat", "cat", "dog", "eel", "eel"], "label 'dog' of image 0"),
        ("probabilities", [[0.1, 0.2, 0.7]] * 5, "5 rows"),
        ("probabilities", [[0.1, 0.2]] * 6, "3 finite numbers"),
        ("probabilities", [[0.1, 0.2, float("nan")]] * 6, "3 finite numbers"),
    ],
)
def test_bad_probabilities_are_refused(tmp_path, key, value, message):
    task = classification(tmp_path, 2, ["cat"] * 6)
    data = read(tmp_path / "predictions.json")
    write(tmp_path / "predictions.json", data | {key: value})
    with pytest.raises(InputError, match=message):
        score(task)


def seed_summary(root, seed, tasks, **options):
    """Score three tasks and summarise them."""
    folders = []
    for number, found in enumerate(tasks, start=1):
        folder = root / f"task{number}"
        score(detection(folder, number, found, seed=seed))
        folders.append(folder)
    aggregate_seed(folders, root / "summary.json", experiment="zoo_clclip", **options)
    return root / "summary.json"


FORGETS = [
    [(100, "cat", True, 0.9), (101, "cat", True, 0.9), (101, "dog", True, 0.9)],
    [(100, "cat", True, 0.9), (102, "eel", True, 0.9)],
    [(100, "cat", True, 0.9), (103, "fox", True, 0.9)],
]


def test_summary_of_a_seed(tmp_path):
    summary = read(seed_summary(tmp_path, 0, FORGETS, dataset="zoo", protocol="2_1x2"))
    assert summary["matrix"] == [[100.0, None, None], [25.0, 100.0, None], [25.0, 0.0, 100.0]]
    assert summary["final"] == {"P": pytest.approx(50 / 3), "C": 100.0, "A": 37.5}
    # cat 100 -> 50, dog 100 -> 0, eel 100 -> 0
    assert summary["forgetting"] == pytest.approx(250 / 3)
    assert summary["average"] == pytest.approx((100 + 50 + 37.5) / 3)
    assert summary["tasks"][0] == {
        "task": 1, "P": None, "C": 100.0, "A": 100.0, "per_class": {"cat": 100.0, "dog": 100.0}
    }  # fmt: skip
    expected = {"experiment", "kind", "method", "dataset", "protocol", "seeds", "tasks", "final"}
    assert expected | {"forgetting", "average", "matrix", "metric", "versions"} <= summary.keys()
    assert "std" not in summary
    assert summary["seeds"] == [0] and summary["dataset"] == "zoo"
    assert summary["versions"]["clip"] == "embedded-1"


def test_summary_of_an_experiment(tmp_path):
    paths = [
        seed_summary(tmp_path / "seed0", 0, FORGETS),
        seed_summary(tmp_path / "seed4", 4, [PERFECT[:2] + PERFECT[4:], PERFECT[:3], PERFECT]),
    ]
    aggregate_experiment(paths, tmp_path / "summary.json")
    summary = read(tmp_path / "summary.json")
    assert summary["seeds"] == [0, 4]
    assert summary["final"]["A"] == pytest.approx((37.5 + 100) / 2)
    assert summary["std"]["A"] == pytest.approx(62.5 / 2**0.5)
    assert summary["std"]["C"] == 0.0
    assert summary["tasks"][2]["per_class"]["dog"] == 50.0
    assert summary["matrix"][2][1] == 50.0
    # Seed 4 keeps everything but a second cat, missed after task 2 only.
    assert summary["forgetting"] == pytest.approx((250 / 3 + 0) / 2)
    assert [row["final"]["A"] for row in summary["per_seed"]] == [37.5, 100.0]

    write_summary_csv([tmp_path / "summary.json"], tmp_path / "summary.csv")
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert len(rows) == 1
    assert rows[0]["experiment"] == "zoo_clclip" and rows[0]["seeds"] == "0 4"
    assert float(rows[0]["A"]) == 68.75 and rows[0]["tasks"] == "3"


TASK_KEYS = {"task", "P", "C", "A", "per_class"}
SEED_KEYS = {"experiment", "kind", "method", "dataset", "protocol", "seeds", "tasks", "final"}
SEED_KEYS |= {"forgetting", "average", "matrix", "metric", "versions"}


@pytest.mark.parametrize("kind", ["detection", "classification"])
def test_contract_of_the_files(tmp_path, kind):
    """The keys that users and outside checks rely on (design page, Files and Definitions)."""
    paths = []
    for seed in (0, 1):
        root = tmp_path / f"seed{seed}"
        if kind == "detection":
            paths.append(seed_summary(root, seed, FORGETS))
        else:
            for number, guesses in enumerate((["cat"] * 4, ["cat"] * 6), start=1):
                score(classification(root / f"task{number}", number, guesses, seed=seed))
            paths.append(root / "summary.json")
            aggregate_seed([root / "task1", root / "task2"], paths[-1], "zoo_clclip")
    scores = read(tmp_path / "seed0" / "task2" / "scores.json")
    assert {"metrics", "per_class"} <= scores.keys()
    assert set(scores["metrics"]) == {"P", "C", "A"}
    assert list(scores["per_class"]) == ["cat", "dog", "eel"]
    assert all(set(row) == {"score", "objects"} for row in scores["per_class"].values())

    aggregate_experiment(paths, tmp_path / "summary.json")
    seed, summary = read(paths[0]), read(tmp_path / "summary.json")
    assert SEED_KEYS <= seed.keys() and "std" not in seed
    assert SEED_KEYS | {"std"} <= summary.keys()
    for found in (seed, summary):
        assert found["kind"] == kind
        assert set(found["final"]) == {"P", "C", "A"}
        assert [row["task"] for row in found["tasks"]] == list(range(1, len(found["tasks"]) + 1))
        for row in found["tasks"]:
            assert set(row) == TASK_KEYS
            assert all(v is None or isinstance(v, float) for v in row["per_class"].values())
        size = len(found["tasks"])
        assert [len(row) for row in found["matrix"]] == [size] * size
        assert all(found["matrix"][i][j] is None for i in range(size) for j in range(i + 1, size))
    assert set(summary["std"]) == {"P", "C", "A"}
    assert summary["seeds"] == [0, 1] and seed["seeds"] == [0]
    for part in "PCA":
        assert summary["std"][part] == 0.0
        assert summary["final"][part] == summary["tasks"][-1][part]
    write_summary_csv([tmp_path / "summary.json"], tmp_path / "summary.csv")
    row = next(csv.DictReader((tmp_path / "summary.csv").open()))
    expected = "experiment kind method dataset protocol metric tasks seeds P C A std_P std_C std_A"
    assert list(row) == [*expected.split(), "forgetting", "average"]


def test_one_seed_has_no_deviation(tmp_path):
    path = seed_summary(tmp_path / "seed0", 0, FORGETS)
    aggregate_experiment([path], tmp_path / "summary.json")
    assert read(tmp_path / "summary.json")["std"] == {"P": None, "C": None, "A": None}
    write_summary_csv([tmp_path / "summary.json"], tmp_path / "summary.csv")
    assert next(csv.DictReader((tmp_path / "summary.csv").open()))["std_A"] == ""


def test_joint_reports_by_the_final_groups(tmp_path):
    found = [PERFECT[0], PERFECT[2], PERFECT[3], PERFECT[4]]  # no dog
    folder = tmp_path / "task1"
    score(detection(folder, 1, found, method="joint", groups=GROUPS))
    aggregate_seed([folder], tmp_path / "summary.json", "zoo_joint")
    summary = read(tmp_path / "summary.json")
    assert summary["final"] == {"P": pytest.approx(200 / 3), "C": 100.0, "A": 75.0}
    assert summary["matrix"] == [[50.0, 100.0, 100.0]]
    assert summary["forgetting"] is None and summary["average"] == 75.0


def test_classification_summary(tmp_path):
    score(classification(tmp_path / "task1", 1, ["cat", "cat", "cat", "dog"]))
    score(classification(tmp_path / "task2", 2, ["cat", "cat", "eel", "dog", "eel", "dog"]))
    aggregate_seed([tmp_path / "task1", tmp_path / "task2"], tmp_path / "summary.json", "zoo")
    summary = read(tmp_path / "summary.json")
    assert summary["matrix"] == [[100.0, None], [75.0, 50.0]]
    assert summary["forgetting"] == 25.0
    assert summary["final"]["A"] == pytest.approx(400 / 6)


def test_tasks_out_of_order_are_refused(tmp_path):
    seed_summary(tmp_path, 0, FORGETS)
    folders = [tmp_path / "task2", tmp_path / "task1"]
    with pytest.raises(InputError, match="tasks in order"):
        aggregate_seed(folders, tmp_path / "x.json", "zoo")
    with pytest.raises(InputError, match=r"no such file.*task9"):
        aggregate_seed([tmp_path / "task9"], tmp_path / "x.json", "zoo")
    assert not (tmp_path / "x.json").exists()


def test_seeds_that_do_not_belong_together_are_refused(tmp_path):
    first = seed_summary(tmp_path / "seed0", 0, FORGETS)
    with pytest.raises(InputError, match="seed 0 twice"):
        aggregate_experiment([first, first], tmp_path / "x.json")
    other = read(first) | {"method": "fvit", "seeds": [1]}
    write(tmp_path / "other.json", other)
    with pytest.raises(InputError, match="method 'fvit'"):
        aggregate_experiment([first, tmp_path / "other.json"], tmp_path / "x.json")


def test_scoring_needs_no_torch(tmp_path):
    task = detection(tmp_path, 2, PERFECT[:3])
    code = (
        "import sys; from pathlib import Path; from clclip.evaluation import aggregate, score\n"
        "score.score(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(task)], check=True)
    assert (tmp_path / "scores.json").exists()
