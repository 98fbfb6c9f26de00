"""Which view of a phone photograph its boxes lie on, and what is said where nothing can tell."""

import json

import numpy as np
import pytest
from PIL import Image

from clclip.core.errors import InputError
from clclip.data.checks.exif import Photo, choose_views
from clclip.data.checks.findings import Findings
from clclip.data.images import ImageFacts, header, inspect, load_rgb
from clclip.data.prepare import data_version, prepare
from clclip.workflow.describe import describe
from tests.helpers.data import TEST, TRAIN, box, make_coco, read, save_image

UPRIGHT, TURNED, FLIPPED, SQUARE = (
    ImageFacts(40, 30, 1, False),
    ImageFacts(40, 30, 6, False),
    ImageFacts(40, 30, 3, False),
    ImageFacts(30, 30, 8, False),
)
BOTH, TALL, WIDE, FAR = [2, 3, 10, 9], [0, 0, 5, 38], [0, 0, 38, 5], [90, 90, 5, 5]
NAN = [float("nan")] * 4
UNKNOWN = (None, None)


def views(*photos, choice=None):
    """Return the views of (facts, recorded, boxes), and what was said of them."""
    findings = Findings()
    given = [Photo(f"{n}.jpg", f"images[{n}]", *photo) for n, photo in enumerate(photos)]
    return choose_views(given, choice, findings), " | ".join(findings.warnings())


@pytest.mark.parametrize(
    ("facts", "recorded", "boxes", "exif", "told"),
    [
        (UPRIGHT, (40, 30), [BOTH], True, None),
        (UPRIGHT, (30, 40), [WIDE], True, "exchanged"),
        (UPRIGHT, (None, 30), [TALL], True, "not recorded"),
        (TURNED, (30, 40), [BOTH], True, "applied to one image: their recorded size"),
        (TURNED, (40, 30), [], False, "not applied to one image: their recorded size"),
        (TURNED, (40, 30), [BOTH, TALL], True, "a box of '0.jpg' fits that view only"),
        (TURNED, (40, 30), [WIDE, NAN], False, "not applied to one image: a box of '0.jpg'"),
        (TURNED, (40, 30), [FAR, TALL], True, "a box of '0.jpg'"),
        (TURNED, UNKNOWN, [TALL], True, "a box of '0.jpg'"),
        (TURNED, UNKNOWN, [WIDE], False, "a box of '0.jpg'"),
        (TURNED, UNKNOWN, [BOTH], True, "size is not recorded"),
        (FLIPPED, (40, 30), [], True, "no boxes"),
    ],
)
def test_one_photo(facts, recorded, boxes, exif, told):
    found, said = views((facts, recorded, boxes))
    assert found == [exif]
    assert said == "" if told is None else told in said


@pytest.mark.parametrize(
    "photo",
    [
        (TURNED, (40, 30), [BOTH]),
        (TURNED, (40, 30), [FAR, BOTH]),
        (FLIPPED, (40, 30), [BOTH]),
        (SQUARE, (30, 30), [BOTH]),
    ],
)
def test_where_nothing_can_tell_the_user_must(photo):
    with pytest.raises(InputError, match=r"EXIF turns one image .*data.exif: apply .*\| ignore"):
        views((UPRIGHT, (40, 30), [BOTH]), photo)
    for choice in ("apply", "ignore"):
        found, said = views(photo, choice=choice)
        assert found == [choice == "apply"] and f"data.exif: {choice}" in said
    assert views(photo, (TURNED, (40, 30), [TALL]))[0] == [True, True]
    if photo[0] is TURNED:
        assert views(photo, (TURNED, (40, 30), [WIDE]))[0] == [False, False]


def test_sizes_of_the_turned_view_decide_where_sizes_say_nothing():
    neutral = [(FLIPPED, (40, 30), [BOTH]), (SQUARE, (30, 30), [BOTH])]
    assert views(*neutral, (TURNED, (30, 40), [BOTH]))[0] == [True, True, True]
    with pytest.raises(InputError, match="EXIF"):  # its size is that of the stored pixels
        views((TURNED, (40, 30), [BOTH]), (TURNED, (30, 40), [BOTH]))
    assert views((TURNED, (40, 30), [BOTH]), (TURNED, (30, 40), [TALL]))[0] == [True, True]


def test_boxes_that_contradict_each_other_are_refused():
    photos = (TURNED, (40, 30), [TALL]), (TURNED, (40, 30), [WIDE])
    with pytest.raises(InputError, match=r"'0.jpg' fit it only as EXIF turns it.*'1.jpg'.*data.ex"):
        views(*photos)
    assert views(*photos, choice="ignore")[0] == [False, False]
    assert views((TURNED, (30, 40), [TALL]), (TURNED, (40, 30), [WIDE]))[0] == [True, False]


@pytest.mark.parametrize(
    ("facts", "recorded", "boxes", "told"),
    [
        (UPRIGHT, (80, 60), [], "80 x 60 recorded for an image of 40 x 30"),
        (UPRIGHT, (30, 40), [TALL], "40 x 30 (EXIF may have turned it once)"),
        (TURNED, (31, 40), [], "30 x 40 (as EXIF turns it; 40 x 30 as stored)"),
        (FLIPPED, (40, 31), [], "as EXIF turns it"),
    ],
)
def test_a_size_that_no_view_has(facts, recorded, boxes, told):
    for choice in (None, "apply"):
        (error,), _ = views((facts, recorded, boxes), choice=choice)
        assert told in str(error)


def phone(root, boxes, orientation=6, suffix="jpg", **size):
    """Write the data set of data_making as stored by a phone, its training boxes given."""
    train = json.loads(json.dumps(TRAIN).replace("png", suffix))
    train["annotations"] = [box(n, 5, 3, b) for n, b in enumerate(boxes, 1)]
    for image in train["images"]:
        image |= size
    spec = make_coco(root, train, json.loads(json.dumps(TEST).replace("png", suffix)))
    for name in "abct":
        save_image(root / f"images/{name}.{suffix}", (40, 30), orientation if name != "t" else 1)
    return spec


def described(spec, tmp_path):
    told = {"kind": "detection", "method": "fvit", "data": spec, "tasks": [["cat"]]}
    (tmp_path / "mine.yaml").write_text(json.dumps(told))
    return describe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_the_view_reaches_the_index_and_describe_tells_it(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    spec = phone(tmp_path / "data", [BOTH, TALL], suffix=suffix)
    said = described(spec, tmp_path)["warnings"]
    why = f"EXIF orientation applied to 3 images: a box of 'a.{suffix}' fits that view only"
    assert why in said
    prepare(spec, tmp_path / "out")
    assert why in read(tmp_path / "out/index.json")["warnings"]
    for image in read(tmp_path / "out/train.json")["images"]:
        assert (image["exif"], image["width"], image["height"]) == (True, 30, 40)


def test_describe_and_prepare_refuse_alike_until_the_key_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = phone(tmp_path / "data", [BOTH])
    before = data_version(spec)
    for look in (lambda: described(spec, tmp_path), lambda: prepare(spec, tmp_path / "out")):
        with pytest.raises(InputError, match=r"EXIF turns one image \('a.jpg'\).*data.exif"):
            look()
    for choice, width in (("apply", 30), ("ignore", 40)):
        chosen = {**spec, "exif": choice}
        assert f"data.exif: {choice}" in " ".join(described(chosen, tmp_path)["warnings"])
        prepare(chosen, tmp_path / choice)
        images = read(tmp_path / choice / "train.json")["images"]
        assert [image["width"] for image in images] == [width] * 3
        assert data_version(chosen) != before == data_version(spec)


@pytest.mark.parametrize(
    ("recorded", "bad", "told"),
    [
        ({"width": 30, "height": 40}, WIDE, "inside its other view by EXIF orientation, 40 x 30"),
        ({"width": 31, "height": 40}, BOTH, "as EXIF turns it"),
        ({"width": 30, "height": 40}, FAR, "outside its image of 30 x 40, in"),
    ],
)
def test_messages_name_exif_where_it_may_explain_them(tmp_path, monkeypatch, recorded, bad, told):
    monkeypatch.chdir(tmp_path)
    spec = phone(tmp_path / "data", [bad], **recorded)
    for look in (lambda: described(spec, tmp_path), lambda: prepare(spec, tmp_path / "out")):
        with pytest.raises(InputError) as caught:
            look()
        assert told in str(caught.value)


def test_a_wrong_size_is_told_by_describe_as_by_prepare(tmp_path, monkeypatch):
    """No image is turned and the box fits: only the recorded size is wrong."""
    monkeypatch.chdir(tmp_path)
    spec = phone(tmp_path / "data", [BOTH], orientation=1, suffix="png", width=4000, height=3000)
    for look in (lambda: described(spec, tmp_path), lambda: prepare(spec, tmp_path / "out")):
        with pytest.raises(InputError, match="4000 x 3000 recorded for an image of 40 x 30"):
            look()


def test_an_empty_file_is_told_by_describe_as_by_prepare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = phone(tmp_path / "data", [BOTH], orientation=1, suffix="png", width=40, height=30)
    (tmp_path / "data/images/b.png").write_bytes(b"")
    for look in (lambda: described(spec, tmp_path), lambda: prepare(spec, tmp_path / "out")):
        with pytest.raises(InputError, match=r"broken image .*b\.png.*on_bad_image: skip"):
            look()
    skipping = {**spec, "on_bad_image": "skip"}
    prepare(skipping, tmp_path / "out")
    left = read(tmp_path / "out/train.json")["images"]
    assert len(left) == 2 and described(skipping, tmp_path)["tasks"][0]["images"] <= 2


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_turned_once_and_its_header_tells_it(tmp_path, suffix, orientation):
    path = tmp_path / f"x.{suffix}"
    pixels = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, lossless=True)
    turned = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}
    across = pixels.transpose(1, 0, 2)
    turned |= {5: across, 6: across[:, ::-1], 7: across[::-1, ::-1], 8: across[::-1]}
    assert np.array_equal(np.asarray(load_rgb(path, exif=False)), pixels)
    assert np.array_equal(np.asarray(load_rgb(path)), turned[orientation])
    assert header(path) == inspect(path) == ImageFacts(40, 30, orientation, False)
