"""What a data set holds besides trains no task again; whatever a task's training reads does."""

import copy
import json
from dataclasses import replace

import pytest

from clclip.config.experiment import Experiment
from clclip.core.kind import Method
from clclip.data.prepare import prepare
from clclip.detection.registry import METHODS
from clclip.workflow.plan import RunPlan, add_experiment
from clclip.workflow.start.changed_data import announced, first_changed
from clclip.workflow.task_store import work_digest
from tests.helpers.workflow.animals import Animals, picture, run_stage, write_tasks


@pytest.fixture
def animals(tmp_path):
    """A data set whose two classes were trained and predicted, task after task."""
    made = Animals(tmp_path)
    assert made.trained() == [1, 2] and made.trained("predict") == [1, 2]
    assert made.trained() == [] == made.trained("predict")
    return made


# ---- what trains nothing again ---------------------------------------------------------------


def test_a_class_whose_images_join_the_data_trains_its_own_task_alone(animals):
    animals.add("cow")
    assert animals.trained(tasks=[["cat"], ["dog"], ["cow"]]) == [3]
    assert animals.trained("predict", tasks=[["cat"], ["dog"], ["cow"]]) == [1, 2, 3]


def test_training_images_that_join_let_the_predictions_be(animals):
    animals.splits["train"][9] = []
    picture(animals.file("train", 9), "9")
    assert animals.trained() == [] == animals.trained("predict")


def test_boxes_of_a_new_class_on_old_images_shift_numbers_and_train_nothing(animals):
    animals.splits["train"][1].insert(0, ("cow", [1, 1, 6, 6]))
    animals.names.insert(0, "cow")  # the other categories have other numbers now
    assert animals.trained() == []
    assert animals.trained(tasks=[["cat"], ["dog"], ["cow"]]) == [3]


def test_a_method_that_names_no_numbers_reads_them_all(animals, monkeypatch):
    facts = METHODS["fvit_replay"]
    monkeypatch.setitem(METHODS, "fvit_replay", replace(facts, numbers=Method.numbers))
    animals.splits["train"][1].insert(0, ("cow", [1, 1, 6, 6]))
    animals.names.append("cow")
    assert animals.trained() == [1, 2]  # by the file itself, as before


def test_new_images_in_a_place_of_their_own_train_nothing(tmp_path):
    made = Animals(tmp_path)
    made.places = {1: 1, 2: 1, 3: 2, 4: 2}
    given = {"data": {"image_rule": "place"}, "tasks": [["cat"], ["dog"]]}
    assert made.trained(**copy.deepcopy(given)) == [1, 2]
    made.places |= {5: 3, 6: 3}
    made.add("cow")
    made.splits["train"][5].append(("cat", [12, 2, 6, 6]))
    more = {**given, "tasks": [["cat"], ["dog"], ["cow"]]}
    assert made.trained(**copy.deepcopy(more)) == [3]
    made.places[2] = 2
    assert made.trained(**copy.deepcopy(more)) == [1, 2, 3]


def test_annotations_laid_out_otherwise_and_a_renamed_folder_train_nothing(animals):
    animals.indent = 2
    assert animals.trained() == [] == animals.trained("predict")
    moved = animals.root.rename(animals.home / "elsewhere")
    animals.root = moved
    assert animals.trained() == [] == animals.trained("predict")


# ---- what does -------------------------------------------------------------------------------


def relabel(animals):
    animals.splits["train"][3] = [("dog", [2, 2, 8, 8]), ("cat", [1, 1, 6, 6])]


def move_box(animals):
    animals.splits["train"][3] = [("dog", [2, 2, 8, 9])]


def repaint(animals):
    picture(animals.file("train", 3), "another")
    with animals.file("train", 3).open("ab") as file:
        file.write(b"\0")


def repaint_an_earlier_one(animals):
    picture(animals.file("train", 1), "another")
    with animals.file("train", 1).open("ab") as file:
        file.write(b"\0")


def drop_an_image(animals):
    del animals.splits["train"][4]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (relabel, [1, 2]),
        (move_box, [2]),
        (repaint, [2]),
        (repaint_an_earlier_one, [1, 2]),
        (drop_an_image, [2]),
    ],
)
def test_an_edit_of_what_a_task_is_trained_on_trains_it_again(animals, edit, expected):
    edit(animals)
    assert animals.trained() == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"text": {"dog": "a barking dog"}}, [2]),
        ({"text": {"cat": "a small cat"}}, [1, 2]),
        ({"tasks": [["dog"], ["cat"]]}, [1, 2]),
        ({"training": {"augment": "none"}}, [1, 2]),
        ({"training": {"image_size": 64}}, [1, 2]),
        ({"training": {"cache_features": False}}, [1, 2]),
        ({"switches": {"scales": [1.0, 0.5]}}, [1, 2]),
        ({"switches": {"dense": "maskclip"}}, [1, 2]),
        ({"data": {"image_rule": "disjoint"}}, [1, 2]),
        ({"per_task": {1: {"training": {"lr": 0.5}}}}, [1, 2]),
        ({"clip": {"model": "embedded_cls"}}, [1, 2]),
        ({"method": "fvit_ior"}, [1, 2]),
    ],
)
def test_another_setting_that_training_reads_trains_again(animals, changes, expected):
    assert animals.trained(**copy.deepcopy(changes)) == expected


def test_an_earlier_image_that_changed_trains_later_tasks_though_the_weights_are_equal(animals):
    """A memory may hold what the weights do not show."""
    folders = animals.plan()
    before = work_digest(folders[1] / "task.json", animals.home / "resources", "train", "a")
    repaint_an_earlier_one(animals)
    folders = animals.plan()
    after = work_digest(folders[1] / "task.json", animals.home / "resources", "train", "a")
    assert before != after


def test_a_changed_test_image_is_predicted_again_and_trains_nothing(animals):
    picture(animals.file("test", 1), "another")
    with animals.file("test", 1).open("ab") as file:
        file.write(b"\0")
    assert animals.trained() == [] and animals.trained("predict") == [1, 2]


def test_two_folders_of_images_of_equal_names_and_sizes_are_two_data_sets(tmp_path):
    """As BMP, clean and noisy pictures have the same number of bytes."""
    clean = Animals(tmp_path, "bmp")
    assert clean.trained() == [1, 2]
    noisy = Animals(tmp_path, "bmp")
    noisy.root = tmp_path / "noisy"
    for split in noisy.splits:
        for number in noisy.splits[split]:
            picture(noisy.file(split, number), f"noise {split} {number}")
            sizes = {a.file(split, number).stat().st_size for a in (clean, noisy)}
            assert len(sizes) == 1
    assert noisy.trained() == [1, 2]


@pytest.mark.parametrize("lacks", ["file", "image", "version"])
def test_where_the_contents_are_not_known_the_id_of_the_data_decides(animals, lacks):
    (home,) = (animals.home / "resources" / "data").iterdir()
    contents = json.loads((home / "contents.json").read_text())
    if lacks == "file":
        (home / "contents.json").unlink()
    else:
        del contents["images"]["train"]["train1.png"]
        contents |= {"version": "00000000"} if lacks == "version" else {}
        (home / "contents.json").write_text(json.dumps(contents))
    assert animals.trained() == [1, 2] and animals.trained() == []
    animals.indent = 2
    assert animals.trained() == []  # indexed anew, with contents: as at first


def test_images_that_change_between_plan_and_index_are_nothing_to_tell_by(animals):
    """Their contents are not those of the data set that the id names."""
    animals.indent = 2
    plan, planned = animals.planned(method="fvit")
    repaint(animals)
    (spec,) = plan.data.values()
    out = animals.home / "resources" / "data" / spec["id"]
    prepare(spec, out)
    folder = write_tasks(planned, animals.home)[1]
    args = (animals.home / "resources", "train", "a")
    (animals.home / "results/mine/seed0/task1" / "weights.safetensors").write_text("w")
    with_contents = work_digest(folder / "task.json", *args)
    (out / "contents.json").unlink()
    assert work_digest(folder / "task.json", *args) == with_contents


# ---- folders of labelled images --------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """Return a function that adds class folders, and one that trains a stream on them."""
    root = tmp_path / "pictures"

    def add(*names):
        for name in names:
            for split, count in (("train", 3), ("test", 1)):
                for number in range(count):
                    path = root / split / name / f"{number}.png"
                    picture(path, f"{split} {name} {number}")

    def trained(*groups, method="seca", stage="train"):
        data = {"format": "folder", "root": str(root)}
        experiment = Experiment(
            name="mine", kind="classification", method=method, data=data, tasks=list(groups)
        )
        plan = RunPlan()
        planned = add_experiment(plan, experiment, [0], tmp_path, "mine")
        (spec,) = plan.data.values()
        out = tmp_path / "resources" / "data" / spec["id"]
        if not out.exists():
            prepare(spec, out)
        return run_stage(write_tasks(planned, tmp_path), tmp_path, stage)

    add("bee", "dog")
    return add, trained


@pytest.mark.parametrize("method", ["seca", "hpeft", "rapf", "vis"])
def test_a_class_folder_more_trains_its_own_task_alone(folders, method):
    add, trained = folders
    assert trained(["bee"], ["dog"], method=method) == [1, 2]
    add("ant")  # before all others: the ids of all their images are others now
    assert trained(["bee"], ["dog"], method=method) == []
    assert trained(["bee"], ["dog"], ["ant"], method=method) == [3]


def test_folds_by_id_are_drawn_again_where_ids_shift(folders):
    """Closed forms draw folds by the ids of images: seconds, and another record."""
    add, trained = folders
    assert trained(["bee"], ["dog"], method="seca_cov") == [1, 2]
    add("cat")  # behind bee
    assert trained(["bee"], ["dog"], ["cat"], method="seca_cov") == [2, 3]


def test_an_image_more_in_a_class_trains_its_task_again(folders, tmp_path):
    _, trained = folders
    assert trained(["bee"], ["dog"]) == [1, 2]
    picture(tmp_path / "pictures/train/dog/9.png", "nine")
    assert trained(["bee"], ["dog"]) == [2]
    picture(tmp_path / "pictures/train/dog/9.png", "ten", (30, 20))
    assert trained(["bee"], ["dog"]) == [2]
    assert trained(["bee"], ["dog"], stage="predict") == [1, 2]


# ---- told before anything starts -------------------------------------------------------------


def join(animals):
    animals.add("cow")


def show_a_dog_beside_it(animals):
    animals.add("cow")
    animals.splits["train"][5].append(("dog", [12, 2, 6, 6]))


def lay_out(animals):
    animals.indent = 2


@pytest.mark.parametrize(
    ("edit", "first"),
    [
        (lambda animals: None, None),
        (lay_out, None),
        (join, None),
        (show_a_dog_beside_it, 2),
        (move_box, None),  # by a pixel: prepare moves boxes that far itself
        (relabel, 1),
        (drop_an_image, 2),
    ],
)
def test_a_run_says_which_finished_task_other_labels_train_again(animals, monkeypatch, edit, first):
    monkeypatch.chdir(animals.home)
    edit(animals)
    tasks = [["cat"], ["dog"], *([["cow"]] if "cow" in animals.names else [])]
    plan, _ = animals.planned(tasks=tasks)
    lines = announced(plan)
    assert [line.split(" train again")[0] for line in lines] == (
        [f"mine: task {first} and all after it"] if first else []
    )
    if first is None and edit is not lay_out and edit is not move_box:
        return
    changed = animals.trained(tasks=tasks)
    assert first is None or changed[0] == first  # so it was
    assert first_changed(animals.planned(tasks=tasks)[1], pytest.fail) is None  # same data now


def test_an_unfinished_task_and_unreadable_data_are_not_announced(animals, monkeypatch):
    monkeypatch.chdir(animals.home)
    plan, planned = animals.planned(method="fvit", name="other", tasks=[["cat"]])
    assert announced(plan) == []
    relabel(animals)
    plan, planned = animals.planned()
    animals.file("train", 3).unlink()
    assert announced(plan) == []
    assert first_changed(planned, lambda: None) is None
