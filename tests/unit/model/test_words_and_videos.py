"""``clclip detect``: names never trained, files of other tools, and videos."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest
from PIL import Image

import clclip
from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.model.use.also import asked_words
from clclip.model.use.video import frames


@pytest.fixture(scope="module")
def images(boxes_run):
    return sorted((boxes_run.parents[2] / "boxes/images").glob("*.png"))


def test_words_never_trained_change_nothing_of_the_classes(cards_model, images):
    model = clclip.load_model(cards_model)
    plain = model(images[:4], threshold=0.02)
    model.look_for(["pink square", "purple star"])
    asked = model(images[:4], threshold=0.02)
    count = len(model.classes)
    found = 0
    for one, other in zip(plain, asked, strict=True):
        own = other.chosen(other.labels < count)
        assert np.array_equal(own.boxes, one.boxes) and np.array_equal(own.scores, one.scores)
        more = other.chosen(other.labels >= count)
        assert set(more.names) <= {"pink square", "purple star"} and len(more) + len(own) == len(
            other
        )
        assert not set(more.categories) & set(own.categories)
        found += len(more)
    assert found
    model.look_for([])
    again = model(images[:4], threshold=0.02)
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(plain, again, strict=True))


def test_words_have_ids_of_their_own(cards_model):
    model = clclip.load_model(cards_model)
    model.look_for(["drawn circle", "zebra"])
    assert [entry["name"] for entry in model.asked] == ["drawn circle", "zebra"]
    assert all(entry["also"] for entry in model.asked)
    ids = [entry["id"] for entry in model.asked + model.card["categories"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("given", "told"),
    [(["a,"], "blank"), (["a,a"], "'a' twice"), (["a,red square"], "'red square', a class"),
     (["a\u200bb"], "invisible")],
)  # fmt: skip
def test_bad_words_are_told(given, told):
    with pytest.raises(InputError, match=told):
        asked_words(given, ["red square"])


def test_detect_marks_words_and_writes_other_formats(cards_model, images, tmp_path):
    words = ["--model", str(cards_model), str(images[0]), str(images[1]), "--threshold", "0.02"]
    words += ["--also", "purple star, zebra", "--format", "yolo,voc,label-studio"]
    assert main(["detect", *words, "--out", str(tmp_path / "out")]) == 0
    data = json.loads((tmp_path / "out/dataset.json").read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    for row in data["annotations"]:
        word = names[row["category_id"]] in ("purple star", "zebra")
        assert row.get("also", False) is word and row["class"] == names[row["category_id"]]
    files = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    stem = images[0].stem
    assert {"label_studio.json", "yolo/data.yaml", f"yolo/labels/{stem}.txt"} <= files
    assert f"voc/Annotations/{stem}.xml" in files
    lines = (tmp_path / f"out/yolo/labels/{stem}.txt").read_text().splitlines()
    own = [row for row in data["annotations"] if row["image"] == str(images[0])]
    assert len(lines) == len(own)


def film(path, images, rate=10):
    """Write images as a video of one frame each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for image in images:
            frame = av.VideoFrame.from_image(Image.open(image).convert("RGB"))
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_frames_by_stride(images, tmp_path):
    path = film(tmp_path / "film.mp4", images[:9])
    found = list(frames(path, 4))
    assert [frame.number for frame in found] == [0, 4, 8]
    assert [frame.seconds for frame in found] == pytest.approx([0, 0.4, 0.8], abs=1e-3)
    for frame in found:
        shown = np.asarray(frame.image, dtype=float)
        own = np.asarray(Image.open(images[frame.number]).convert("RGB"), dtype=float)
        other = np.asarray(Image.open(images[frame.number + 1 - 2 * (frame.number == 8)])
                           .convert("RGB"), dtype=float)  # fmt: skip
        assert abs(shown - own).mean() < abs(shown - other).mean()


def test_detect_a_video_frame_by_frame(cards_model, images, tmp_path):
    path = film(tmp_path / "film.mp4", images[:9])
    words = ["--model", str(cards_model), str(path), "--every", "3", "--threshold", "0.02"]
    assert main(["detect", *words, "--batch", "2", "--out", str(tmp_path / "out")]) == 0
    data = json.loads((tmp_path / "out/dataset.json").read_text())
    assert [(i["id"], i["frame"]) for i in data["images"]] == [(1, 0), (2, 3), (3, 6)]
    assert {i["video"] for i in data["images"]} == {str(path)}
    assert {a["image_id"] for a in data["annotations"]} <= {1, 2, 3}
    drawn = sorted(p.name for p in (tmp_path / "out").glob("*.png"))
    assert drawn == ["film-000000.png", "film-000003.png", "film-000006.png"]


def test_bad_videos_are_one_line_and_write_nothing(cards_model, images, tmp_path, capsys):
    whole = film(tmp_path / "film.mp4", images[:9])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "half.mp4").write_bytes(whole.read_bytes()[:700])
    film(tmp_path / "none.avi", [])
    cases = [
        (["empty.mp4"], "an empty video"),
        (["text.mp4"], "not a video"),
        (["half.mp4"], "not a video"),
        (["none.avi"], "in "),
        (["gone.mp4"], "no such image"),
        (["film.mp4", str(images[0])], "beside images"),
        (["film.mp4", "--every", "0"], "every 0, in --every"),
        ([str(images[0]), "--every", "2"], "without a video"),
    ]
    for words, told in cases:
        given = [str(tmp_path / w) if w.endswith((".mp4", ".avi")) else w for w in words]
        out = tmp_path / "out"
        status = main(["detect", "--model", str(cards_model), *given, "--out", str(out)])
        said = capsys.readouterr().err
        assert status == 2 and told in said and said.count("\n") == 1, words
        assert not out.exists()
