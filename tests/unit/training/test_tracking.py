"""What wandb is told, read back from what its offline mode wrote."""

from __future__ import annotations

import json
import time

import pytest
from PIL import Image

from clclip.cli.main import main
from clclip.training import tracking
from tests.helpers import wandb_files
from tests.helpers.report import world

NAMES = ["red disc", "blue disc", "green disc", "gold disc"]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A detector trained in two starts and scored, and a scored classifier."""
    patch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("tracking")
    patch.chdir(root)
    patch.setenv("CLCLIP_WANDB", "offline")
    patch.setenv("HOME", str(root))
    truth = world.draw_images(root, NAMES, 12)
    world.run(root, "zoo_fvit", "fvit", [NAMES[:2], NAMES[2:]], truth)
    world.classify(root, "cil_seca", "seca", [["a", "b"], ["c"]], 0.9)
    boxes, labels = root / "results/zoo_fvit/seed0/task2", root / "results/cil_seca/seed0/task2"
    task = json.loads((boxes / "task.json").read_text())
    for steps in ((10, 20), (30,)):  # killed after step 20, then resumed
        run = tracking.tracker(boxes, task)
        for step in steps:
            run({"step": step, "loss": 1 / step})
        run.close()
        time.sleep(1.1)  # wandb names folders by the second
    (boxes / "history.csv").write_text("step,loss\n10,0.1\n20,0.05\n30,0.033\n")
    for folder in (boxes, labels):
        assert main(["score", "--task", str(folder / "task.json")]) == 0
    yield boxes, labels
    patch.undo()


def one(path, kind):
    """Return the first record of a kind."""
    return next(record for name, record in wandb_files.read(path) if name == kind)


def test_a_resumed_task_and_its_scores_are_one_run(tracked):
    boxes, labels = tracked
    runs = [one(path, "run") for path in wandb_files.logs(boxes)]
    assert len(runs) == 3, "two starts and the scoring"
    assert len({run.run_id for run in runs}) == 1
    assert {run.run_group for run in runs} == {"zoo_fvit"}
    assert runs[0].display_name == "zoo_fvit seed0 task2" and runs[0].project == "clclip"
    (other,) = (one(path, "run") for path in wandb_files.logs(labels))
    assert other.run_id != runs[0].run_id and other.run_group == "cil_seca"


def test_history_goes_on(tracked):
    rows = wandb_files.history(tracked[0])
    assert [row["_step"] for row in rows] == [10, 20, 30, 31]
    assert rows[2]["loss"] == pytest.approx(1 / 30)


@pytest.mark.parametrize("place", [0, 1])
def test_scores_classes_and_images(tracked, place):
    folder = tracked[place]
    path = wandb_files.logs(folder)[-1]
    row = wandb_files.history(folder)[-1]
    scores = json.loads((folder / "scores.json").read_text())
    for part, value in scores["metrics"].items():
        assert row[f"score/{part}"] == pytest.approx(value)
    media = path.parent / "files"
    table = json.loads((media / row["classes"]["path"]).read_text())
    assert table["columns"] == ["class", scores["metric"], "test objects"]
    expected = [[n, e["score"], e["objects"]] for n, e in scores["per_class"].items()]
    assert table["data"] == expected and len(expected) > 2
    images = row["test images"]
    assert images["count"] == 8
    for name in images["filenames"]:
        assert Image.open(media / name).size == ((128, 128) if place == 0 else (64, 64))
    if place == 1:
        assert all(": " in caption for caption in images["captions"])
        return
    boxes = [entry["predictions"]["path"] for entry in images["all_boxes"]]
    groups = [json.loads((media / name).read_text()) for name in boxes]
    for group in groups:
        assert set(group["class_labels"].values()) == set(NAMES)
        for box in group["box_data"]:
            assert box["scores"]["score"] >= tracking.LEAST_SCORE and box["domain"] == "pixel"
    assert any(group["box_data"] for group in groups)


def test_images_that_are_gone_leave_the_numbers(tracked, tmp_path):
    boxes, _ = tracked
    copied = tmp_path / "results" / "other" / "seed0" / "task2"
    for name in ("task.json", "test.json", "predictions.json", "scores.json"):
        world.write(copied / name, json.loads((boxes / name).read_text()))
    tracking.track_scores(copied / "task.json", tmp_path / "nowhere")
    (row,) = wandb_files.history(copied)
    assert "test images" not in row and row["classes"]["nrows"] == 4 and row["_step"] == 1


def test_another_configuration_is_another_run(tmp_path):
    task = {"training": {"lr": 0.1}}
    first = tracking.identity(tmp_path, task)
    assert first == tracking.identity(tmp_path, {"training": {"lr": 0.1}})
    assert first != tracking.identity(tmp_path, {"training": {"lr": 0.2}})
    assert first != tracking.identity(tmp_path / "task2", task)


def test_mode_reaches_wandb(monkeypatch, tmp_path):
    import wandb

    given = []
    monkeypatch.setattr(wandb, "init", lambda **options: given.append(options))
    monkeypatch.delenv("CLCLIP_WANDB", raising=False)
    assert tracking.tracker(tmp_path, {}) is None and not given
    monkeypatch.setenv("CLCLIP_WANDB", "online")
    tracking.tracker(tmp_path / "mine" / "seed3" / "task1", {"seed": 3})
    assert given[0]["mode"] == "online" and given[0]["resume"] == "allow"
    assert given[0]["group"] == "mine" and given[0]["config"] == {"seed": 3}
