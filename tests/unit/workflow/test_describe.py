"""`clclip describe` counts training images as `clclip split` leaves them, and refuses as it does.

Every case is told by `describe` first and then prepared and split by the commands themselves.
"""

import json
import re
from pathlib import Path

import pytest
import yaml

from clclip.cli.main import main
from clclip.core.digest import canonical
from clclip.data.readers import coco
from clclip.workflow.describe import describe
from clclip.workflow.plan import plan_run
from tests.helpers.cards import NAMES, write_coco, write_experiment, write_voc


def described(file: str, capsys) -> dict | str:
    """Return what `describe --json` says, or its error."""
    status = main(["describe", file, "--json"])
    said = capsys.readouterr()
    assert status in (0, 2)
    return json.loads(said.out) if status == 0 else said.err.strip()


def split_by_hand(file: str, capsys) -> list[int] | str:
    """Return the number of training images of each task by `prepare` and `split`, or the error."""
    plan = plan_run({"experiments": [file]})
    (spec,), (experiment,) = plan.data.values(), plan.experiments.values()
    calls = [["prepare", "--spec", canonical(spec), "--out", f"resources/data/{spec['id']}"]]
    found = []
    for task in experiment.tasks.values():
        path = f"{task.folder}/task.json"
        calls.append(["resolve", "--json", task.json, "--out", path])
        calls.append(["split", "--task", path])
    for call in calls:
        if main(call):
            said = capsys.readouterr().err.strip().splitlines()[-1]
            return re.sub(r"results/\S+/task\.json", file, said)
        if call[0] == "split":
            made = json.loads(Path(call[2]).with_name("train.json").read_text())
            found.append(len(made["images"]))
    capsys.readouterr()
    return found


RULES = [
    ({}, [3, 5, 2]),
    ({"image_rule": "disjoint"}, [3, 4, 1]),
    ({"image_rule": "non_cooccurrence"}, [3, 2, 0]),
    ({"image_rule": "disjoint", "fractions": [0.3, 0.25, 0.45]}, [1, 1, 1]),
    ({"image_rule": "disjoint", "fractions": [0.5, 0.3, 0.2]}, [2, 0, 2]),
]


@pytest.mark.parametrize(("rule", "counts"), RULES)
@pytest.mark.parametrize("write", [write_coco, write_voc])
def test_counts_are_those_of_split(write, rule, counts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write_experiment(tmp_path, write(tmp_path / "cards") | rule)
    before = described(file, capsys)
    made = split_by_hand(file, capsys)
    after = described(file, capsys)  # now from the prepared data
    if isinstance(made, str):
        assert before == after == made
        assert f"no training image for task {counts.index(0) + 1}" in before
        return
    for found in (before, after):
        assert [task["images"] for task in found["tasks"]] == made
        assert found["data"]["images"] == {"train": 10, "test": 1}
    assert made == counts or write is write_voc  # which knows no crowds


def test_joint_and_other_seeds_are_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write_experiment(tmp_path, write_coco(tmp_path / "cards"), method="joint", seeds=[0, 3])
    found = described(file, capsys)
    assert [task["images"] for task in found["tasks"]] == split_by_hand(file, capsys)[:1] == [8]


def boxes(*changed):
    """Return a change of the training annotations: (place, key, value) each."""

    def change(train):
        for place, key, value in changed:
            train["annotations"][place][key] = value

    return change


def widths_exchanged(train):
    for image in train["images"]:
        image |= {"width": 24, "height": 32}
    train["annotations"][0]["bbox"] = [20, 1, 11, 9]


def sizes_left_out(train):
    for image in train["images"]:
        del image["width"], image["height"]
    train["annotations"][0]["bbox"] = [-5, 1, 11, 9]


BOXES = {
    "far outside, fail": (boxes((0, "bbox", [30, 1, 11, 9])), {}),
    "far outside, skip": (boxes((0, "bbox", [30, 1, 11, 9])), {"on_bad_box": "skip"}),
    "far outside, clip": (boxes((0, "bbox", [30, 1, 11, 9])), {"on_bad_box": "clip"}),
    "no height": (boxes((0, "bbox", [3, 1, 11, 0])), {"on_bad_box": "clip"}),
    "width and height exchanged": (widths_exchanged, {}),
    "no sizes": (sizes_left_out, {"on_bad_box": "skip"}),
    "only crowds": (boxes((9, "iscrowd", 1), (12, "iscrowd", 1)), {}),
    "only ignored": (boxes((9, "ignore", 1), (12, "ignore", 1)), {}),
}


@pytest.mark.parametrize("name", BOXES)
def test_boxes_are_cleaned_as_prepare_cleans_them(name, tmp_path, monkeypatch, capsys):
    change, keys = BOXES[name]
    monkeypatch.chdir(tmp_path)
    file = write_experiment(tmp_path, write_coco(tmp_path / "cards", change) | keys)
    found, made = described(file, capsys), split_by_hand(file, capsys)
    if isinstance(made, str):
        assert found == made
    else:
        assert [task["images"] for task in found["tasks"]] == made


def test_a_missing_image_may_be_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_coco(tmp_path / "cards")
    (tmp_path / "cards/images/train1.png").unlink()
    assert "1 of 10 train images are missing, e.g. 'train1.png'" in described(
        write_experiment(tmp_path, data), capsys
    )
    file = write_experiment(tmp_path, data | {"on_bad_image": "skip"})
    assert [task["images"] for task in described(file, capsys)["tasks"]] == [2, 5, 2]


def test_an_empty_test_split_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write_experiment(tmp_path, write_coco(tmp_path / "cards"))
    empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ace"}]}
    (tmp_path / "cards/test.json").write_text(json.dumps(empty))
    said = described(file, capsys)
    assert "no test image" in said and "test.json, expected at least one image" in said


def test_annotations_are_parsed_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file, read = write_experiment(tmp_path, write_coco(tmp_path / "cards")), []
    document = coco._read_document
    monkeypatch.setattr(coco, "_read_document", lambda path: read.append(path) or document(path))
    assert described(file, capsys)["tasks"][0]["images"] == 3
    assert sorted(path.name for path in read) == ["test.json", "train.json"]
    described(file, capsys)
    assert len(read) == 4  # nothing is held beyond one command


def test_rule_and_flavours_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_coco(tmp_path / "cards")
    data |= {"image_rule": "disjoint", "fractions": [0.3, 0.25, 0.45]}
    scored = {"ap": "coco", "images": "group"}
    file = write_experiment(tmp_path, data, evaluation=scored)
    found = described(file, capsys)
    assert found["image_rule"] == "disjoint" and found["fractions"] == [0.3, 0.25, 0.45]
    assert found["evaluation"] == scored | {"metric": "AP[.50:.95]"}
    assert main(["describe", file]) == 0
    line = "image rule: disjoint, fractions 0.3, 0.25, 0.45; score: AP[.50:.95] on the test images"
    assert line in capsys.readouterr().out


def test_photographs_on_the_embedded_tower_and_a_larger_canvas_are_told(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    data, minutes = write_coco(tmp_path / "cards"), []
    for size in (128, 256):
        file = write_experiment(tmp_path, data, training={"image_size": size, "epochs": 9999})
        minutes.append(described(file, capsys)["estimate"]["minutes"])
    assert minutes[1] == pytest.approx(4 * minutes[0], rel=0.1)
    assert main(["describe", file]) == 0
    assert "only seen drawn shapes; for photographs: clip: {model:" in capsys.readouterr().out
    assert main(["describe", "smoke_clclip"]) == 0
    assert "photographs" not in capsys.readouterr().out


def test_data_to_be_downloaded_is_counted_where_it_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devkit").mkdir()
    tasks = [["cat"], ["dog"]]
    data = {"format": "voc", "root": "devkit", "download": True}
    file = write_experiment(tmp_path, data, tasks=tasks)
    found = described(file, capsys)
    assert not found["data"]["there"] and found["tasks"][0]["images"] is None
    assert main(["describe", file]) == 0
    assert "(voc): to be downloaded" in capsys.readouterr().out
    monkeypatch.setattr(
        "tests.helpers.cards.ON_IMAGES", {1: [("cat", "")], 2: [("dog", ""), ("cat", "")]}
    )
    write_voc(tmp_path / "devkit/VOC2007")
    found = described(file, capsys)
    assert found["data"]["there"] and [task["images"] for task in found["tasks"]] == [2, 1]


WORLD = {"format": "shapes", "world": "shapes20_tiny"}


@pytest.mark.parametrize("write", [write_coco, write_voc, lambda root: WORLD])
def test_the_spec_is_one_that_prepare_takes(write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write(tmp_path / "cards")
    tasks = [["red circle"]] if data is WORLD else [["ace"], ["jack"]]
    spec = described(write_experiment(tmp_path, data, tasks=tasks), capsys)["spec"]
    assert (
        main(["prepare", "--spec", json.dumps(spec), "--out", f"resources/data/{spec['id']}"]) == 0
    )
    index = json.loads((tmp_path / "resources/data" / spec["id"] / "index.json").read_text())
    assert index["id"] == spec["id"] and index["kind"] == "detection"


UNSCORED = {
    "a class": (
        [("ace", ""), ("queen", "")],
        ["jack"],
        "1 of 3 classes, without test instances: j",
    ),
    "a class with crowds only": (
        [("ace", ""), ("queen", ""), ("jack", "iscrowd")],
        ["jack"],
        "1 of",
    ),
    "a task": (
        [("ace", "")],
        ["jack", "queen"],
        "task 2 and 3, none of whose classes has test ins",
    ),
    "a whole split": ([], NAMES, "anything, because the test split shows no class of the tasks"),
    "nothing": ([(name, "") for name in NAMES], [], None),
}


@pytest.mark.parametrize("name", UNSCORED)
@pytest.mark.parametrize("prepared", [False, True])
def test_what_will_not_be_scored_is_told(name, prepared, tmp_path, monkeypatch, capsys):
    shown, unscored, line = UNSCORED[name]
    monkeypatch.chdir(tmp_path)
    file = write_experiment(tmp_path, write_coco(tmp_path / "cards"))
    test = json.loads((tmp_path / "cards/test.json").read_text())
    test["annotations"] = [
        {"id": n, "image_id": 1, "bbox": [9 * n, 1, 8, 9], "iscrowd": int(bool(flag))}
        | {"category_id": NAMES.index(label) + 1}
        for n, (label, flag) in enumerate(shown)
    ]
    (tmp_path / "cards/test.json").write_text(json.dumps(test))
    if prepared:
        split_by_hand(file, capsys)
    assert described(file, capsys)["unscored"] == unscored
    assert main(["describe", file]) == 0
    said = capsys.readouterr().out
    assert ("not scored" not in said) if line is None else (f"  not scored: {line}" in said)


def test_classes_of_one_text_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = write_coco(tmp_path / "cards")
    for text, named in ({}, 0), ({"ace": "playing_card", "queen": "playing card"}, 1):
        warnings = described(write_experiment(tmp_path, data, text=text), capsys)["warnings"]
        lines = [line for line in warnings if "apart" in line]
        assert len(lines) == named
    assert "'ace', 'queen'" in lines[0] and "'playing card'" in lines[0]


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ("x", "error: 'x', in --seeds, expected numbers, e.g. 0,1,2"),
        ("0,1.5", "error: '1.5', in --seeds, expected numbers, e.g. 0,1,2"),
        ("-1", "error: seed -1 is outside 0..2147483647, in --seeds, expected a number in"),
    ],
)
def test_seeds_that_are_none_are_told_in_plain_words(seeds, told, capsys):
    assert main(["describe", "smoke_fvit", f"--seeds={seeds}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(told)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (
            {"base": "smoke_clclip", "text": {"green circle": "red_circle"}},
            "red circle green circle",
        ),
        (
            {
                "base": "smoke_seca",
                "text": {"green circle": "red/circle", "red circle": "red or circle"},
            },
            "red circle green circle",
        ),
        (
            {"base": "smoke_seca_cov", "text": {"red circle": "blue circle"}},
            "red circle blue circle",
        ),
        # a text of the shipped stream
        ({"base": "voc_10_10_fvit", "text": {"bottle": "potted plant"}}, "bottle pottedplant"),
        ({"base": "smoke_ncm", "text": {"red circle": "blue circle"}}, ""),  # reads no text
    ],
)
def test_two_classes_of_one_text_are_a_remark(values, names, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    lines = [line for line in describe(str(path))["warnings"] if "to the CLIP" in line]
    assert len(lines) == bool(names), lines
    if names:
        assert "cannot tell them apart" in lines[0]
        words = lines[0].partition(" are all ")[0].replace("'", "").split(", ")
        assert " ".join(words) == names
