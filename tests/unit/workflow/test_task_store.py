"""The store of finished tasks: equal work once, anything else again, nothing damaged ever used."""

import threading
import time

import pytest

from clclip.config.experiment import Experiment
from clclip.core.errors import InputError
from clclip.workflow.plan import RunPlan, add_experiment
from clclip.workflow.task_store import stored, work_digest

FILES = ["weights.safetensors", "history.csv"]


@pytest.fixture
def runs(tmp_path):
    """Two experiments of the same first task, split; return their folders."""
    folders = {}
    for name, method in (("one", "clclip"), ("two", "clclip"), ("other", "fvit")):
        experiment = Experiment(
            name=name, kind="detection", method=method, tasks=[["red star"], ["red cross"]]
        )
        planned = add_experiment(RunPlan(), experiment, [0], tmp_path, name)
        for number in (1, 2):
            folder = tmp_path / name / f"task{number}"
            folder.mkdir(parents=True)
            (folder / "task.json").write_text(planned.tasks[0, number].json)
            (folder / "train.json").write_text("{}")
            (folder / "test.json").write_text("{}")
        folders[name] = tmp_path / name
    return folders


@pytest.fixture
def train(runs, tmp_path):
    """Return a function that trains a task through the store and tells whether it really did."""

    def run(name, number=1, code="a", slow=0.0):
        folder, done = runs[name] / f"task{number}", []

        def work():
            time.sleep(slow)
            done.append(name)
            for file in FILES:
                (folder / file).write_text(f"{file} by {name}")

        stored(folder / "task.json", tmp_path / "resources", "train", code, FILES, work)
        return bool(done)

    return run


def test_equal_task_is_trained_once_and_copied(train, runs):
    assert train("one") and not train("two") and not train("one")
    for file in FILES:
        copies = [runs[name] / "task1" / file for name in ("one", "two")]
        assert copies[0].read_bytes() == copies[1].read_bytes()
        assert copies[0].stat().st_ino != copies[1].stat().st_ino  # its age is its own


def test_other_method_code_split_or_earlier_weights_train_again(train, runs):
    assert train("one") and train("other") and train("one", code="b")
    (runs["two"] / "task1" / "train.json").write_text('{"images": []}')
    assert train("two")
    (runs["two"] / "task1" / "train.json").write_text("{}")
    assert not train("two") and train("one", number=2) and not train("two", number=2)
    (runs["two"] / "task1" / "weights.safetensors").write_text("others")
    assert train("two", number=2)


def test_two_jobs_at_once_train_once(train):
    trained = []
    threads = [
        threading.Thread(target=lambda name=name: trained.append(train(name, slow=0.3)))
        for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(trained) == [False, True]


@pytest.mark.parametrize("damage", ["other bytes", "gone", "list broken"])
def test_damaged_entry_is_made_again(train, tmp_path, damage):
    train("one")
    entry = next((tmp_path / "resources" / "tasks").iterdir())
    if damage == "other bytes":
        (entry / FILES[0]).unlink()
        (entry / FILES[0]).write_text("tampered")
    elif damage == "gone":
        (entry / FILES[1]).unlink()
    else:
        (entry / "files.json").write_text("{")
    assert train("two") and not train("one")


def test_failed_work_leaves_no_entry(runs, tmp_path, train):
    def fail():
        raise RuntimeError("killed")

    task = runs["one"] / "task1" / "task.json"
    with pytest.raises(RuntimeError):
        stored(task, tmp_path / "resources", "train", "a", FILES, fail)
    assert train("two")


def test_prediction_depends_on_the_tasks_own_weights(runs, tmp_path):
    task = runs["one"] / "task1" / "task.json"
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        work_digest(task, tmp_path / "resources", "predict", "a")
    digests = []
    for content in ("x", "y"):
        (runs["one"] / "task1" / "weights.safetensors").write_text(content)
        digests.append(work_digest(task, tmp_path / "resources", "predict", "a"))
    assert digests[0] != digests[1]
