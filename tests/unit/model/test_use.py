"""``model(images)``: images of every kind, batches, thresholds, what comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import clclip
from clclip.core.errors import InputError
from clclip.data.images import load_rgb
from clclip.model.export import export
from clclip.model.place import open_place
from clclip.model.use.classification import ClassificationModel
from clclip.model.use.pictures import opened, prepared
from tests.helpers.model import NAMES, draw_folders, train, write_experiment


@pytest.fixture(scope="module")
def model(cards_model):
    return clclip.load_model(cards_model)


@pytest.fixture(scope="module")
def images(boxes_run):
    return sorted((boxes_run.parents[2] / "boxes/images").glob("*.png"))


def equal(one, other):
    return np.array_equal(one.boxes, other.boxes) and np.array_equal(one.scores, other.scores)


def test_one_image_in_every_form_gives_one_answer(model, images):
    path = images[0]
    found = model(path, threshold=0)
    assert len(found) and found.boxes.shape == (len(found), 4) and found.boxes.dtype == np.float32
    assert (found.width, found.height, found.path) == (96, 72, str(path))
    array = np.asarray(Image.open(path).convert("RGB"))
    pixels = torch.from_numpy(array.copy()).permute(2, 0, 1)
    forms = [str(path), Image.open(path), array, array / 255, pixels, pixels / 255]
    for form in forms:
        assert equal(model(form, threshold=0), found), type(form)
    for many in ([path], array[None], pixels[None]):
        answers = model(many, threshold=0)
        assert isinstance(answers, list) and equal(answers[0], found)


def test_answers_are_sorted_within_the_image_and_named(model, images):
    for found in model(images, threshold=0):
        assert (np.diff(found.scores) <= 0).all() and len(found) <= model.limit
        assert found.names == [model.classes[label] for label in found.labels]
        assert (found.boxes >= 0).all() and (found.boxes[:, 2] <= 96).all()
        assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()


def test_batches_change_nothing_but_rounding(model, images):
    alone = [model(path, threshold=0.05) for path in images]
    for batch in (3, 16):
        for one, other in zip(alone, model(images, threshold=0.05, batch=batch), strict=True):
            assert len(one) == len(other)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_predictions_of_the_stage_are_those_of_the_model(model, boxes_run, images):
    """The stage reads features that were stored as float16, so scores agree to that."""
    rows = json.loads((boxes_run / "task2/predictions.json").read_text())
    test = json.loads((boxes_run / "task2/test.json").read_text())["images"]
    found = model([images[0].parent / image["file_name"] for image in test], threshold=0)
    assert sum(map(len, found)) == pytest.approx(len(rows), abs=2) and len(rows) > 20
    for one, image in zip(found, test, strict=True):
        scores = [row["score"] for row in rows if row["image_id"] == image["id"]]
        assert max(scores, default=0) == pytest.approx(max(one.scores, default=0), abs=2e-3)


def test_thresholds_and_classes_choose(model, images):
    everything = model(images[0], threshold=0)
    middle = float(np.median(everything.scores))
    assert all(score >= middle for score in model(images[0], threshold=middle).scores)
    first = everything.names[0]
    assert set(model(images[0], threshold={first: 0.0}).names) == {first}
    assert set(model(images[0], threshold=0, classes=[first]).names) == {first}
    for wrong in ({"threshold": 2}, {"classes": ["red squid"]}, {"threshold": {"cow": 0.5}}):
        with pytest.raises(InputError, match=r"threshold|did you mean|'cow'"):
            model(images[0], **wrong)


def test_coco_rows_carry_the_ids_of_the_data(model, images):
    found = model(images[0], threshold=0)
    rows = found.to_coco(image_id=7)
    assert [row["category_id"] for row in rows] == [NAMES.index(name) + 3 for name in found.names]
    for row, (x0, y0, x1, y1) in zip(rows, found.boxes.tolist(), strict=True):
        assert row["image_id"] == 7 and row["bbox"] == pytest.approx(
            [x0, y0, x1 - x0, y1 - y0], abs=0.02
        )
    assert json.loads(json.dumps(rows)) == rows


def test_supervision_where_it_is_installed(model, images, monkeypatch):
    found = model(images[0], threshold=0)
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    made = found.to_supervision()
    assert made.xyxy is found.boxes and list(made.data["class_name"]) == found.names
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match="pip install supervision"):
        found.to_supervision()


@pytest.mark.parametrize(
    "wrong",
    [
        3,
        np.zeros((4, 4, 7), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), 2.0),
        np.full((4, 4, 3), np.nan),
        np.zeros((0, 4, 3), np.uint8),
        torch.zeros(4, 4, 3),
        [object()],
        "gone.png",
    ],
)
def test_what_is_no_image_is_one_line(model, wrong):
    with pytest.raises(InputError):
        model(wrong)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I;16", "F", "CMYK"])
def test_pil_images_are_read_as_their_files(mode, tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    picture = Image.fromarray(ramp)
    if mode == "I;16":
        picture = Image.fromarray(ramp.astype(np.uint16) * 257)
    elif mode in ("RGBA", "LA"):
        picture = picture.convert(mode)
        picture.putalpha(Image.fromarray(ramp.T.copy()))
    else:
        picture = picture.convert(mode)
    path = tmp_path / "x.tif"
    picture.save(path)
    expected = np.asarray(load_rgb(path)).astype(int)
    got = np.asarray(opened(Image.open(path)).image).astype(int)
    assert abs(got - expected).max() <= 1


def test_a_turned_photo_is_upright(tmp_path):
    picture, exif = Image.new("RGB", (20, 10)), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert opened(tmp_path / "turned.jpg").image.size == (10, 20)
    assert opened(Image.open(tmp_path / "turned.jpg")).image.size == (10, 20)


def test_a_classifier_says_what_its_stage_said(folders_run, tmp_path):
    model = clclip.load_model(folders_run)
    rows = json.loads((folders_run / "task2/predictions.json").read_text())
    test = json.loads((folders_run / "task2/test.json").read_text())
    home = folders_run.parents[2] / "folders"
    files = [home / image["file_name"] for image in test["images"]]
    found = model(files)
    for one, row in zip(found, rows["probabilities"], strict=True):
        assert one.probabilities.tolist() == pytest.approx(row, abs=1e-6)
        assert one.names[0] == model.classes[int(np.argmax(row))]
        assert one.scores[0] == one.probabilities.max() and len(one) == 4
    assert model(files[0]).names == found[0].names
    with pytest.raises(InputError, match="clclip classify"):
        clclip.load_model(folders_run, kind="detection")


@pytest.mark.parametrize("method", ["ranpac", "zeroshot", "rapf", "vis", "seca_cov"])
def test_classifiers_of_stored_features_say_what_their_stages_said(method, tmp_path):
    draw_folders(tmp_path / "folders", NAMES[:3])
    keys = {"kind": "classification", "tasks": [NAMES[:2], NAMES[2:3]]}
    run = train(write_experiment(tmp_path, "solved", method=method, **keys))
    rows = json.loads((run / "task2/predictions.json").read_text())["probabilities"]
    test = json.loads((run / "task2/test.json").read_text())
    files = [tmp_path / "folders" / image["file_name"] for image in test["images"]]
    export(run, tmp_path / "model")
    for one, row in zip(clclip.load_model(tmp_path / "model")(files), rows, strict=True):
        assert one.probabilities.tolist() == pytest.approx(row, abs=1e-5)


def test_one_pil_image_several_times_in_a_list(tmp_path):
    """It is decoded on first use, by whichever reader thread comes first."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    for _ in range(5):
        items = [Image.open(tmp_path / "noise.png")] * 6
        batches = prepared(items, lambda picture: np.asarray(picture.image), 4, None)
        rows = [row for batch in batches for row in batch]
        assert [number for number, _ in rows] == list(range(6))
        assert all(np.array_equal(values, noise) for _, values in rows)


def test_a_classifier_runs_where_it_is_asked_to(folders_run):
    """Also one that is loaded to the usual device; "meta" computes nothing, but is another one."""
    model = ClassificationModel(open_place(folders_run), "meta")
    classifier = model.classifier
    tensors = list(classifier.clip.model.parameters())
    tensors += [classifier.text, model._mean]
    tensors += [] if classifier.prototypes is None else [classifier.prototypes]
    if classifier.visual.adapters is not None:
        tensors += classifier.visual.adapters.parameters()
    assert model.device.type == classifier.visual.context.device.type == "meta"
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert clclip.load_model(folders_run, device="cpu").device.type == "cpu"


@pytest.mark.parametrize("device", ["foo", "", "meta", "cuda:99", "cpu:x"])
@pytest.mark.parametrize("kind", ["cards_model", "folders_run"])
def test_a_device_that_is_not_there_is_one_line(kind, device, request):
    place = request.getfixturevalue(kind)
    with pytest.raises(
        InputError, match=f"device '{device}'.*a device of this machine: cpu"
    ) as error:
        clclip.load_model(place, device=device)
    assert "\n" not in str(error.value)


def test_loading_needs_no_torch_before_a_model_is_asked_for():
    code = "import clclip, sys; clclip.load_model; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
