"""``clclip label``: suggestions for old classes, reviewed in Label Studio, and read back."""

from __future__ import annotations

import json
import shutil

import pytest

from clclip.cli.main import main


@pytest.fixture
def new(boxes_run, tmp_path):
    """Three images of which one object is labelled, as a new class."""
    home = boxes_run.parents[2] / "boxes"
    data = json.loads((home / "train.json").read_text())
    images = data["images"][:3]
    for image in images:
        (tmp_path / "images").mkdir(exist_ok=True)
        shutil.copy(home / "images" / image["file_name"], tmp_path / "images")
    first = next(a for a in data["annotations"] if a["image_id"] == images[0]["id"])
    made = {"images": images, "annotations": [first | {"category_id": 77}]}
    made["categories"] = [{"id": 77, "name": "crate"}]
    path = tmp_path / "new.json"
    path.write_text(json.dumps(made))
    return path


def test_the_loop_of_suggesting_correcting_and_reading_back(cards_model, new, tmp_path):
    both = tmp_path / "both.json"
    words = ["--data", str(new), "--out", str(both)]
    assert main(["label", "--model", str(cards_model), *words, "--threshold", "0.05"]) == 0
    made, given = json.loads(both.read_text()), json.loads(new.read_text())
    added = [a for a in made["annotations"] if a.get("origin") == "model"]
    assert added and made["annotations"][:1] == given["annotations"]
    assert made["categories"][0] == {"id": 77, "name": "crate"}
    assert {c["id"] for c in made["categories"]} >= {a["category_id"] for a in added}
    assert all(a["score"] >= 0.05 for a in added)

    tasks = json.loads((tmp_path / "both.label-studio.json").read_text())
    assert [task["data"]["file_name"] for task in tasks] == [i["file_name"] for i in made["images"]]
    assert str(tmp_path / "images").lstrip("/") in tasks[0]["data"]["image"]
    kept = [row for row in tasks[0]["predictions"][0]["result"] if "score" not in row]
    assert [row["value"]["rectanglelabels"] for row in kept] == [["crate"]]
    reviewed = tasks[0] | {"annotations": [{"result": kept}]}  # all suggestions were wrong
    export = tmp_path / "export.json"
    export.write_text(json.dumps([reviewed]))

    final = tmp_path / "final.json"
    words = ["--data", str(both), "--corrected", str(export), "--out", str(final)]
    assert main(["label", *words]) == 0
    last = json.loads(final.read_text())
    on_first = [a for a in last["annotations"] if a["image_id"] == made["images"][0]["id"]]
    assert [a["category_id"] for a in on_first] == [77]
    others = [a for a in last["annotations"] if a not in on_first]
    assert others == [a for a in made["annotations"] if a["image_id"] != made["images"][0]["id"]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--overlap", "0"], "overlap 0, in --overlap"),
        (["--threshold", "2"], "threshold 2.0, in --threshold"),
        (["--images", "gone"], "no folder 'gone'"),
        (["--data", "gone.json"], "gone.json"),
        (["--data", "photos.txt"], "data 'photos.txt'"),
        (["--corrected", "x.json"], "both, in --corrected, --model"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(cards_model, new, tmp_path, capsys, words, told):
    given = ["label", "--model", str(cards_model), "--data", str(new)]
    assert main([*given, "--out", str(tmp_path / "both.json"), *words]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
    assert not list(tmp_path.glob("both*"))


def test_the_labels_are_not_written_over(cards_model, new, capsys):
    before = new.read_bytes()
    assert main(["label", "--model", str(cards_model), "--data", str(new), "--out", str(new)]) == 2
    assert "labels themselves" in capsys.readouterr().err and new.read_bytes() == before


def test_without_a_model_or_corrections_it_says_so(new, tmp_path, capsys):
    assert main(["label", "--data", str(new), "--out", str(tmp_path / "both.json")]) == 2
    assert "no model" in capsys.readouterr().err
