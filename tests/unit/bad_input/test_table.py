"""Every kind of bad input through the command line: one line, status 2, old outputs untouched."""

import errno
import json
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from clclip.cli.main import main
from tests.helpers.bad_input import configs, files, results, weights
from tests.helpers.bad_input.world import (
    BIRDS,
    SEED,
    edit_json,
    edit_yaml,
    index_of,
    make_data,
    picture,
    prepare_call,
    report_call,
    run_all,
    snapshot,
)

MODULES = (configs, files, weights, results)
CASES = {name: case for module in MODULES for name, case in module.CASES.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which two experiments have run to the end."""
    work = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(work)
    try:
        make_data(work)
        run_all(work)
    finally:
        os.chdir(before)
    return work


@pytest.fixture
def work(finished, tmp_path, monkeypatch):
    """A copy of it to damage, as the working directory."""
    copied = tmp_path / "work"
    shutil.copytree(finished, copied, symlinks=True)
    monkeypatch.chdir(copied)
    for path in (copied / "resources/data").glob("*/index.json"):  # roots are absolute
        path.write_text(path.read_text().replace(str(finished), str(copied)))
    return copied


def refused(call, capsys) -> str:
    """Run a command that must end with status 2 and one line; return the line."""
    capsys.readouterr()
    status = main(call)
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status == 2, said
    assert len(lines) == 1 and said.splitlines()[-1] == lines[0], said
    assert "Traceback" not in said and "\x1b" not in said
    assert "weights_only" not in said and "state_dict for" not in said, "torch's own words"
    assert ", in " in lines[0] and ", expected " in lines[0], lines[0]
    return lines[0]


@pytest.mark.parametrize("name", CASES)
def test_bad_input(work, capsys, name):
    damage, call, parts = CASES[name]
    damage(work)
    line = call if isinstance(call, list) else call(work)
    before = snapshot(work)
    said = refused(line, capsys)
    assert [part for part in parts if part not in said] == [], said
    assert snapshot(work) == before
    assert not (work / "pwned").exists()


WRITERS = {
    "split": ["split", "--task", f"{SEED}/task2/task.json"],
    "train": ["train", "--task", f"{SEED}/task2/task.json"],
    "predict": ["predict", "--task", f"{SEED}/task2/task.json"],
    "train a classifier": ["train", "--task", f"{BIRDS}/task2/task.json"],
    "score": ["score", "--task", f"{SEED}/task2/task.json"],
    "report": report_call(),
    "detect": ["detect", "--run", SEED, "cards/images/test1.png", "--out", "found"],
    "schema": ["schema", "--out", "results/schema.json"],
}


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk(work, capsys, monkeypatch, name):
    """No file may grow beyond 100 bytes: every writer meets a disk that is full in mid-file."""
    before = snapshot(work)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # a module that is first imported here would leave bytecode cut short, for every later process
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        said = refused(WRITERS[name], capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written (File too large)" in said and "space left" in said
    assert snapshot(work) == before


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_read_only_disk(work, capsys, monkeypatch, name, number):
    """Root may write anywhere, so the refusal is made up where temporary files are opened."""

    def refuse(*_, **where):
        raise OSError(number, os.strerror(number), str(where.get("dir")))

    before = snapshot(work)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    said = refused(WRITERS[name], capsys)
    assert f"cannot be written ({os.strerror(number)})" in said
    assert snapshot(work) == before


def test_log_on_a_full_device_does_not_hide_the_error(work, capsys):
    line = ["score", "--task", "none.json", "--log", "/dev/full"]
    assert "no such file, in none.json" in refused(line, capsys)


def test_1e_4_as_text_is_a_number(work, capsys):
    (work / "cards.yaml").write_text(
        (work / "cards.yaml").read_text().replace("augment: none", "augment: none\n  lr: 1e-4")
    )
    assert yaml.safe_load((work / "cards.yaml").read_text())["training"]["lr"] == "1e-4"
    assert main(["describe", "cards.yaml"]) == 0


GOOD = {
    "CMYK": lambda path: Image.new("CMYK", (64, 48), (9, 90, 50, 0)).save(path, "JPEG"),
    "16 bit": lambda path: Image.fromarray(np.full((48, 64), 40_000, np.uint16)).save(path),
    "palette": lambda path: Image.new("P", (64, 48), 3).save(path),
    "transparent": lambda path: Image.new("RGBA", (64, 48), (9, 9, 9, 9)).save(path),
    "animated": lambda path: Image.new("RGB", (64, 48)).save(
        path, "GIF", save_all=True, append_images=[Image.new("RGB", (64, 48), "white")]
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_images_are_read(work, name):
    GOOD[name](work / "cards/images/train2.png")
    assert main(prepare_call(work)) == 0
    index = json.loads((index_of(work) / "index.json").read_text())
    assert index["skipped"] == [] and index["counts"]["train"] == 3
    assert (name == "animated") == any("first frame used" in line for line in index["warnings"])


def test_exif_rotation_follows_the_recorded_size(work):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(work / "cards/images/train2.png", exif=exif)
    assert main(prepare_call(work)) == 0
    train = json.loads((index_of(work) / "train.json").read_text())
    assert train["images"][1] | {"exif": True, "width": 64, "height": 48} == train["images"][1]


ODD = ["a 'b' \"c\".png", "é 日本.png", "line\nbreak.png", "$(touch pwned).png", "; rm -rf x.png"]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_thin_images_are_looked_at(work, size):
    picture(work / "photo.png", size)
    assert main(["detect", "--run", SEED, "photo.png", "--out", "found"]) == 0
    assert main(["classify", "--run", BIRDS, "photo.png", "--out", "found/birds.json"]) == 0


def test_own_images_are_looked_at_from_any_folder(work, tmp_path, monkeypatch, capsys):
    picture(tmp_path / "elsewhere/photo.png")
    monkeypatch.chdir(tmp_path / "elsewhere")
    commands = {"detect": SEED, "classify": BIRDS}
    for command, run in commands.items():
        call = [command, "photo.png", "--out", f"{command}.out", "--run"]
        assert main([*call, str(work / run)]) == 0
        (work / run).rename(tmp_path / command)  # the run alone, without its project
        assert "no such file" in refused([*call, str(tmp_path / command)], capsys)
        line = [*call, str(tmp_path / command), "--resources", str(work / "resources")]
        assert main(line) == 0


def test_detections_are_coco_results_and_a_coco_data_set(work):
    """The run's own ids, whatever they are; the very file through pycocotools, and its results."""
    from pycocotools.coco import COCO

    for name in (f"{SEED}/task{task}/test.json" for task in (1, 2)):
        edit_json(work / name, renumber)
    images = ["cards/images/test2.png", "cards/images/test1.png"]
    call = ["detect", "--run", SEED, *images, "--threshold", "0", "--out", "found"]
    assert main(call) == 0
    loaded = COCO("found/dataset.json")
    assert [loaded.imgs[k]["file_name"] for k in (1, 2)] == images
    assert (loaded.imgs[1]["width"], loaded.imgs[1]["height"]) == (64, 48)
    assert {k: c["name"] for k, c in loaded.cats.items()} == {11: "ace", 12: "jack", 13: "queen"}
    found = json.loads(Path("found/detections.json").read_text())
    assert found == loaded.dataset["annotations"]
    assert found and [row["id"] for row in found] == list(range(1, len(found) + 1))
    for row in found:
        x, y, width, height = row["bbox"]
        assert min(x, y) >= 0 and x + width <= 64.001 and y + height <= 48.001
        assert row["area"] == pytest.approx(width * height, abs=1e-3)
        assert row["image"] == loaded.imgs[row["image_id"]]["file_name"]
        assert row["class"] == loaded.cats[row["category_id"]]["name"]
        assert row["iscrowd"] == 0 and 0 <= row["score"] <= 1
    truth = COCO("found/dataset.json").loadRes("found/detections.json")
    assert len(truth.anns) == len(found)


def renumber(split):
    """Give the categories of a split file other ids."""
    for item in split["categories"]:
        item["id"] += 10
    for item in split["annotations"]:
        item["category_id"] += 10


def test_odd_file_names_are_read(work):
    def rename(data):
        for image, name in zip(data["images"], ODD[:3], strict=True):
            (work / "cards/images" / image["file_name"]).rename(work / "cards/images" / name)
            image["file_name"] = name

    edit_json(work / "cards/train.json", rename)
    assert main(prepare_call(work)) == 0
    train = json.loads((index_of(work) / "train.json").read_text())
    assert {image["file_name"] for image in train["images"]} == set(ODD[:3])


def test_skipped_images_are_counted_and_listed_in_the_report(work, capsys):
    (work / "cards/images/train2.png").write_bytes(b"<b>broken</b>")
    picture(work / "cards/images/train3.png", (9, 9))
    assert main(prepare_call(work, id=index_of(work).name, on_bad_image="skip")) == 0
    assert main(report_call()) == 0
    page = (work / "results/report.html").read_text(encoding="utf-8")
    assert "About the data" in page and "2 bad images left out" in page
    assert "train2.png" in page and "train3.png" in page and "broken image" in page


def test_markup_in_class_names_reaches_the_report_as_text(work):
    evil = "<script>alert(1)</script>"
    for path in [*(work / "results/cards").rglob("*.json"), *index_of(work).glob("*.json")]:
        path.write_text(path.read_text().replace('"ace"', json.dumps(evil)))
    assert main(report_call()) == 0
    page = (work / "results/report.html").read_text(encoding="utf-8")
    assert evil not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert all("<script>alert" not in f.read_text() for f in (work / "results").rglob("*.svg"))


def test_a_class_name_with_markup_is_told_as_it_is(work, capsys):
    edit_yaml(work / "cards.yaml", tasks=[["<img src=x onerror=alert(1)>"]])
    assert "'<img src=x onerror=alert(1)>' is not in the data" in refused(
        ["describe", "cards.yaml"], capsys
    )
