"""``clclip detect`` and ``classify`` with a model folder: folders, patterns, bad images, crops."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.data.own_images import find_images


@pytest.fixture
def photos(boxes_run, tmp_path):
    """Two folders of images, one inside the other."""
    home = boxes_run.parents[2] / "boxes/images"
    inner = tmp_path / "photos/inner"
    inner.mkdir(parents=True)
    for name in ("1", "2", "3"):
        shutil.copy(home / f"{name}.png", tmp_path / "photos")
    shutil.copy(home / "4.png", inner)
    shutil.copy(home / "1.png", inner)
    return tmp_path / "photos"


def detected(capsys, *words):
    """Run `clclip detect`; return its status and what it says on stderr."""
    status = main(["detect", *map(str, words)])
    return status, capsys.readouterr().err


def test_files_folders_patterns_and_lists(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)

    def names(given, **keys):
        return [str(path.relative_to(photos)) for path in find_images(given, **keys)]

    one, inner = photos / "1.png", photos / "inner"
    assert names([photos]) == ["1.png", "2.png", "3.png"]
    deep = ["1.png", "2.png", "3.png", "inner/1.png", "inner/4.png"]
    assert names([photos], recursive=True) == deep
    assert names([photos / "**/*.png"]) == deep
    assert names([photos / "[12].png"]) == ["1.png", "2.png"]
    (photos / "list.txt").write_text("3.png\n\ninner/4.png\n")
    assert names([photos / "list.txt", one]) == ["3.png", "inner/4.png", "1.png"]
    assert names([one, inner, one]) == ["1.png", "inner/1.png", "inner/4.png", "1.png"]
    (photos / "list.txt").write_text("gone.png\n")
    for given, text in (
        ([photos / "list.txt"], "gone.png.*line 1"),
        ([photos / "*.bmp"], "no images"),
        ([photos / "gone.png"], "no such image"),
    ):
        with pytest.raises(InputError, match=text):
            find_images(given)


def test_a_link_that_leads_back_ends(photos):
    (photos / "inner/up").symlink_to(photos)
    assert len(find_images([photos], recursive=True)) == 5


def test_a_model_and_its_run_detect_the_same(boxes_run, cards_model, photos, tmp_path, capsys):
    for option, place, out in (("--run", boxes_run, "a"), ("--model", cards_model, "b")):
        words = [
            option,
            place,
            photos,
            "--recursive",
            "--threshold",
            "0.1",
            "--out",
            tmp_path / out,
        ]
        assert detected(capsys, *words)[0] == 0
    one, other = ((tmp_path / out / "detections.json").read_text() for out in "ab")
    assert one == other and len(json.loads(one)) > 3
    drawn = sorted(path.name for path in (tmp_path / "b").glob("*.png"))
    assert drawn == ["1-2.png", "1.png", "2.png", "3.png", "4.png"]
    info = json.loads((tmp_path / "b/dataset.json").read_text())
    assert len(info["images"]) == 5 and info["info"]["model"] == str(cards_model)
    assert [c["id"] for c in info["categories"]] == [3, 4, 5, 6]


def test_crops_are_the_boxes(cards_model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--model", cards_model, photos / "1.png", "--threshold", "0.1", "--out", out]
    assert detected(capsys, *words, "--crops")[0] == 0
    rows = json.loads((out / "detections.json").read_text())
    for number, row in enumerate(rows, 1):
        crop = Image.open(out / "crops" / row["class"].replace(" ", "_") / f"1-{number}.png")
        assert crop.size == pytest.approx(row["bbox"][2:], abs=1.6)
    assert len(list(out.glob("crops/*/*.png"))) == len(rows) > 0


def test_a_second_call_replaces_what_the_first_wrote(cards_model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--model", cards_model, "--threshold", "0.1", "--out", out]
    given = [photos, "--recursive", "--crops", "--format", "yolo,voc,label-studio"]
    assert detected(capsys, *words, *given)[0] == 0
    assert (out / "4.png").is_file() and list(out.glob("crops/*/4-*.png"))
    (out / "mine.txt").write_text("not of clclip")
    assert detected(capsys, *words, photos / "1.png")[0] == 0
    kept = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    fresh = tmp_path / "fresh"
    assert detected(capsys, *words[:-1], fresh, photos / "1.png")[0] == 0
    alone = {p.relative_to(fresh).as_posix() for p in fresh.rglob("*") if p.is_file()}
    assert kept == alone | {"mine.txt"} and "1.png" in kept
    assert {p.name for p in out.iterdir() if p.is_dir()} <= {"crops", "yolo", "voc"}
    assert detected(capsys, *words, photos / "1.png", "--crops")[0] == 0
    crops = sorted(out.glob("crops/*/*.png"))
    assert detected(capsys, *words, *crops)[0] == 0
    assert all(path.is_file() for path in crops), "what was given is not deleted"
    written = json.loads((out / ".clclip-detect.json").read_text())
    written |= {"../photos/2.png": ["x"], "mine.txt": 3}  # not as we wrote it
    (out / ".clclip-detect.json").write_text(json.dumps(written))
    assert detected(capsys, *words, photos / "3.png")[0] == 0
    assert (photos / "2.png").is_file() and (out / "mine.txt").is_file()


@pytest.mark.parametrize("change", ["labels corrected", "a data set of one's own", "no list"])
def test_a_second_call_leaves_the_work_of_people(cards_model, photos, tmp_path, capsys, change):
    out = tmp_path / "out"
    words = ["--model", cards_model, "--threshold", "0.1", "--out", out, "--format", "yolo"]
    assert detected(capsys, *words, photos)[0] == 0
    changed = next(out.glob("yolo/**/*.txt"))
    if change == "labels corrected":
        changed.write_text("0 0.5 0.5 0.25 0.25\n")
    elif change == "no list":
        (out / ".clclip-detect.json").write_text('{"1.png": ["0')  # cut short
        changed = out / "1.png"
    else:
        changed = out / "dataset.json"
        changed.write_text("[]")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    status, told = detected(capsys, *words, photos / "1.png")
    assert status == 2 and changed.relative_to(out).as_posix() in told and told.count("error:") == 1
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    changed.unlink()
    assert detected(capsys, *words, photos / "1.png")[0] == (2 if change == "no list" else 0)


def test_a_model_is_no_folder_for_results(cards_model, photos, capsys):
    before = sorted(cards_model.iterdir())
    status, told = detected(capsys, "--model", cards_model, photos, "--out", cards_model)
    assert status == 2 and "a model folder" in told and sorted(cards_model.iterdir()) == before


def test_a_bad_image_ends_all_and_leaves_nothing(cards_model, photos, tmp_path, capsys):
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes()[:100])
    out = tmp_path / "out"
    status, told = detected(capsys, "--model", cards_model, photos, "--out", out)
    assert status == 2 and "broken image" in told and "2.png" in told and told.count("error:") == 1
    assert not out.exists()
    words = ["--model", cards_model, photos, "--on-bad-image", "skip", "--out", out]
    assert detected(capsys, *words)[0] == 0
    info = json.loads((out / "dataset.json").read_text())
    assert [entry["file_name"] for entry in info["images"]] == [
        str(photos / "1.png"),
        str(photos / "3.png"),
    ]
    assert [entry["id"] for entry in info["images"]] == [1, 2]
    assert info["info"]["skipped"][0]["file_name"] == str(photos / "2.png")
    for name in ("1", "3"):
        (photos / f"{name}.png").write_bytes(b"")
    status, told = detected(capsys, *words)
    assert status == 2 and "none of 3 images" in told
    assert len(json.loads((out / "dataset.json").read_text())["images"]) == 2, "as it was"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--batch", "0"], "batch 0"),
        (["--threshold", "1.5"], "threshold 1.5"),
        (["--classes", "red squid"], "red squid"),
        (["--task", "1"], "task 1"),
    ],
)
def test_a_wrong_option_is_one_line(cards_model, photos, tmp_path, capsys, words, text):
    given = ["--model", cards_model, photos, "--out", tmp_path / "out", *words]
    status, told = detected(capsys, *given)
    assert status == 2 and text in told and not (tmp_path / "out").exists()


def test_which_model_must_be_said(photos, tmp_path, capsys):
    status, told = detected(capsys, photos, "--out", tmp_path / "out")
    assert status == 2 and "--model DIR" in told


def test_classify_by_a_model_folder(folders_run, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "found.json"
    assert main(["export", "--run", str(folders_run), "--out", str(model), "--with-tower"]) == 0
    assert "4 classes in 2 parts" in capsys.readouterr().out
    images = folders_run.parents[2] / "folders/test"
    words = ["classify", "--model", str(model), str(images), "--recursive", "--out", str(out)]
    assert main([*words, "--top-k", "2"]) == 0
    found = json.loads(out.read_text())
    assert len(found) == 20 and all(len(entry["classes"]) == 2 for entry in found)
    assert main(["detect", *words[1:-1], str(tmp_path / "boxes")]) == 2
    assert "clclip classify" in capsys.readouterr().err
