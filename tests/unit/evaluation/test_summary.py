"""Summaries of seeds and experiments, from their scores."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from clclip.core.errors import InputError
from clclip.evaluation.aggregate import aggregate_experiment, aggregate_seed, write_summary_csv
from clclip.evaluation.interval import accuracy_interval
from clclip.evaluation.score import score
from tests.helpers.scoring import (
    GROUPS,
    PERFECT,
    classification,
    detection,
    read,
    write,
)


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


def test_classes_not_yet_taught_are_carried_and_averaged(tmp_path):
    paths = []
    for seed, value in ((0, 10.0), (1, 20.0)):
        root = tmp_path / f"seed{seed}"
        root.mkdir()
        told = [{"task": 1, "AP": value, "per_class": {"eel": value, "fox": None}}]
        (root / "unseen.json").write_text(json.dumps(told))
        paths.append(seed_summary(root, seed, FORGETS))
        assert read(paths[-1])["unseen"] == told
    aggregate_experiment(paths, tmp_path / "summary.json")
    unseen = read(tmp_path / "summary.json")["unseen"]
    assert unseen == [{"task": 1, "AP": 15.0, "per_class": {"eel": 15.0, "fox": None}}]
    (tmp_path / "seed1/unseen.json").write_text("{}")
    with pytest.raises(InputError, match="clclip unseen"):
        seed_summary(tmp_path / "seed1", 1, FORGETS)
    (tmp_path / "seed1/unseen.json").unlink()
    paths[1] = seed_summary(tmp_path / "seed1", 1, FORGETS)
    aggregate_experiment(paths, tmp_path / "summary.json")
    assert "unseen" not in read(tmp_path / "summary.json")


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
    images = ["image_rule", "fractions", "images"]
    scored = ["classes", "scored_classes", "low_A", "high_A"]
    assert list(row) == [*expected.split(), "forgetting", "average", *images, *scored]
    assert [row[key] for key in images] == ["overlap", "", "full"]


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
    assert summary["matrix"] == [[50.0, None, None]]
    assert summary["forgetting"] is None and summary["average"] == 75.0


def test_classification_summary(tmp_path):
    score(classification(tmp_path / "task1", 1, ["cat", "cat", "cat", "dog"]))
    score(classification(tmp_path / "task2", 2, ["cat", "cat", "eel", "dog", "eel", "dog"]))
    aggregate_seed([tmp_path / "task1", tmp_path / "task2"], tmp_path / "summary.json", "zoo")
    summary = read(tmp_path / "summary.json")
    assert summary["matrix"] == [[100.0, None], [75.0, 50.0]]
    assert summary["forgetting"] == 25.0
    assert summary["final"]["A"] == pytest.approx(400 / 6)


def test_image_rule_and_fractions_are_in_the_results(tmp_path):
    folders = [tmp_path / "task1", tmp_path / "task2"]
    for number, folder in enumerate(folders, start=1):
        score(detection(folder, number, FORGETS[number - 1], evaluation={"images": "group"}))
        task = read(folder / "task.json")
        rule = {"image_rule": "disjoint", "fractions": [0.75, 0.25][:number]}
        write(folder / "task.json", task | {"data": task["data"] | rule})
    aggregate_seed(folders, tmp_path / "seed.json", "zoo_clclip")
    aggregate_experiment([tmp_path / "seed.json"], tmp_path / "summary.json")
    for name in ("seed.json", "summary.json"):
        summary = read(tmp_path / name)
        assert summary["image_rule"] == "disjoint" and summary["fractions"] == [0.75, 0.25]
        assert summary["images"] == "group"
    write_summary_csv([tmp_path / "summary.json"], tmp_path / "summary.csv")
    row = next(csv.DictReader((tmp_path / "summary.csv").open()))
    assert (row["image_rule"], row["fractions"], row["images"]) == (
        "disjoint",
        "0.75 0.25",
        "group",
    )
    write(tmp_path / "other.json", read(tmp_path / "seed.json") | {"seeds": [1], "fractions": [1]})
    with pytest.raises(InputError, match=r"fractions \[1\].*expected \[0.75, 0.25\] as in"):
        aggregate_experiment([tmp_path / "seed.json", tmp_path / "other.json"], tmp_path / "x.json")
    task = read(folders[1] / "task.json")
    write(folders[1] / "task.json", task | {"data": task["data"] | {"image_rule": "overlap"}})
    with pytest.raises(InputError, match=r"image rule 'overlap'.*expected 'disjoint' as in task 1"):
        aggregate_seed(folders, tmp_path / "x.json", "zoo_clclip")


def test_summaries_of_older_versions_had_the_rule_overlap(tmp_path):
    path = seed_summary(tmp_path / "seed0", 0, FORGETS)
    old = {key: value for key, value in read(path).items() if key != "image_rule"}
    write(path, old)
    aggregate_experiment([path], tmp_path / "summary.json")
    assert read(tmp_path / "summary.json")["image_rule"] == "overlap"


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


def test_interval_of_an_accuracy_is_that_of_resampled_images():
    right = np.arange(800) < 632
    draws = np.random.default_rng(1)
    means = [100 * right[draws.integers(0, 800, 800)].mean() for _ in range(2000)]
    found = accuracy_interval(632, 800)
    assert np.allclose(found, np.quantile(means, (0.025, 0.975)), atol=0.4)
    assert accuracy_interval(5, 5) == [100.0, 100.0]
    assert accuracy_interval(0, 0) is None
