"""Generated worlds: same bytes everywhere, boxes that fit the pixels, splits that differ."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from clclip.core.errors import InputError
from clclip.data.shapes import objects as shapes
from clclip.data.shapes import renditions
from clclip.data.shapes import worlds as scenes
from clclip.data.shapes.random import Draws


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_splitmix64_agrees_with_the_published_generator():
    """The first words of the reference C code for seed 1234567."""
    draws = Draws("x")
    draws._seed = np.uint64(1234567)
    assert draws._words(3).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_draws_depend_on_the_key_alone_and_fill_their_range():
    values = Draws("a", 1).integers(-2, 3, (4000,))
    assert values.tolist() == Draws("a", 1).integers(-2, 3, (4000,)).tolist()
    assert set(values.tolist()) == {-2, -1, 0, 1, 2, 3}
    assert (
        Draws("a", 2).integers(0, 9, (8,)).tolist() != Draws("a", 1).integers(0, 9, (8,)).tolist()
    )
    one_by_one = Draws("a", 3)
    assert [one_by_one.integer(0, 99) for _ in range(5)] == Draws("a", 3).integers(
        0, 99, (5,)
    ).tolist()


def test_pixels_are_the_same_on_every_machine():
    """A changed hash means changed data: raise the version of the worlds that show it with it."""
    image, _ = scenes.scene(shapes.class_names(20), Draws("shapes20", "1", "train", 1))
    assert digest(image) == "27bc03f4be198d2e"
    atlas = [shapes.coverage(shape, 40, 17).reshape(-1) for shape in shapes.SHAPES]
    assert digest(np.concatenate(atlas)) == "64c85cbeb644ebfa"
    styles = [renditions.rendition("red ring", 64, s, Draws("t", s)) for s in renditions.STYLES]
    assert digest(np.stack(styles)) == "466670839f24dde3"


def test_classes_are_prefixes_of_the_larger_world():
    names = shapes.class_names(80)
    assert len(set(names)) == 80
    assert names[:5] == ["red circle", "green circle", "blue circle", "yellow circle", "red square"]
    assert shapes.class_names(20) == names[:20] and shapes.class_names(40) == names[:40]
    with pytest.raises(ValueError, match="81"):
        shapes.class_names(81)


@pytest.mark.parametrize("shape", shapes.SHAPES)
@pytest.mark.parametrize("size", [8, 20, 52, 100])
def test_coverage_is_tight_and_of_the_asked_size(shape, size):
    for angle in (0, -20, 133):
        cells = shapes.coverage(shape, size, angle)
        assert size - 1 <= max(cells.shape) <= size and cells.max() == 16
        assert cells[0].any() and cells[-1].any() and cells[:, 0].any() and cells[:, -1].any()


def test_coverage_measures_area():
    """Areas in closed form: a disc, a square, and a ring with its hole."""
    assert shapes.coverage("circle", 60).sum() / 16 == pytest.approx(np.pi * 30**2, rel=0.01)
    assert shapes.coverage("square", 31).sum() / 16 == 31**2
    ring = shapes.coverage("ring", 60)
    assert ring.sum() / 16 == pytest.approx(np.pi * (30**2 - 16.8**2), rel=0.02)
    assert ring[30, 30] == 0


def test_a_quarter_turn_turns_the_pixels():
    for shape in ("arrow", "triangle", "bolt"):
        turned = np.rot90(shapes.coverage(shape, 40), -1).astype(int)
        assert np.abs(turned - shapes.coverage(shape, 40, 90)).mean() < 0.5


def test_all_shapes_differ():
    squares = []
    for shape in shapes.SHAPES:
        cells = shapes.coverage(shape, 32)
        square = np.zeros((32, 32), int)
        square[: cells.shape[0], : cells.shape[1]] = cells
        squares.append(square)
    for a in range(20):
        for b in range(a):
            assert np.abs(squares[a] - squares[b]).mean() > 1, (shapes.SHAPES[a], shapes.SHAPES[b])


def test_boxes_are_the_tight_boxes_of_drawn_pixels():
    """An object's box, found anew from the pixels that a scene without noise changes."""
    classes = shapes.class_names(20)
    for number in range(20):
        image, objects = scenes.scene(classes, Draws("box", number))
        empty = shapes.background(128, 128, Draws("box", number)).astype(np.uint8)
        changed = (image != empty).any(axis=2)
        assert 1 <= len(objects) <= 5
        outside = changed.copy()
        for _, (x, y, w, h) in objects:
            assert 0 <= x and 0 <= y and x + w <= 128 and y + h <= 128 and 19 <= max(w, h) <= 52
            part = changed[y : y + h, x : x + w]
            # a rim pixel of coverage 1/16 may round to the ground's own colour: allow one pixel
            assert part[:2].any() and part[-2:].any() and part[:, :2].any() and part[:, -2:].any()
            outside[y : y + h, x : x + w] = False
        assert not outside.any()


def test_objects_do_not_overlap_and_have_the_named_colour():
    image, objects = scenes.scene(["yellow square"], Draws("overlap", 4))
    taken = np.zeros((128, 128), int)
    for _, (x, y, w, h) in objects:
        taken[y : y + h, x : x + w] += 1
        red, green, blue = image[y + h // 2, x + w // 2].astype(int)
        assert red > blue + 60 and green > blue + 60
    assert taken.max() == 1


def test_generate_detection(tmp_path):
    scenes.generate("shapes20_tiny", tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    spec = scenes.world_spec("shapes20_tiny")
    assert (
        index["id"] == spec["data_id"] == "shapes20_tiny-v1" and index["classes"] == spec["classes"]
    )
    ids = set()
    for split, count in (("train", 60), ("test", 40)):
        data = json.loads((tmp_path / f"{split}.json").read_text())
        assert len(data["images"]) == count == spec["counts"][split]
        assert [c["name"] for c in data["categories"]] == index["classes"]
        assert [c["id"] for c in data["categories"]] == list(range(1, 21))
        assert {a["image_id"] for a in data["annotations"]} == {i["id"] for i in data["images"]}
        assert all(a["area"] == a["bbox"][2] * a["bbox"][3] for a in data["annotations"])
        with Image.open(tmp_path / "images" / data["images"][0]["file_name"]) as image:
            assert image.size == (128, 128) and image.mode == "RGB"
        ids |= {i["id"] for i in data["images"]}
    assert len(ids) == 100
    assert {f.suffix for f in (tmp_path / "images").iterdir()} == {".png"}


def test_generate_classification(tmp_path):
    scenes.generate("shapes_cil_tiny", tmp_path)
    data = json.loads((tmp_path / "test.json").read_text())
    assert data["classes"] == shapes.class_names(40) and len(data["images"]) == 160
    assert sum(i["label"] == "red arrow" for i in data["images"]) == 4
    with Image.open(tmp_path / "images" / data["images"][0]["file_name"]) as image:
        assert image.size == (64, 64)


def test_splits_and_worlds_share_no_image():
    seen = set()
    for world in ("shapes20", "shapes20_tiny", "shapes80"):
        for split in ("train", "test"):
            for number in range(5):
                seen.add(
                    digest(
                        scenes.scene(shapes.class_names(20), Draws(world, "1", split, number))[0]
                    )
                )
    assert len(seen) == 30


def test_unknown_world_names_the_nearest():
    with pytest.raises(InputError, match="shapes80"):
        scenes.world_spec("shape80")


def test_outline_hatch_and_blur():
    cells = shapes.coverage("square", 20)
    rim = renditions.outline(cells, 2)
    assert rim[10, 10] == 0 and rim[0, 10] == 16 and rim[1, 10] == 16 and rim[2, 10] == 0
    striped = renditions.hatch(cells, 4, 1)
    assert (striped == 16).sum() == 200 and (striped == 10).sum() == 200
    spike = np.zeros((9, 9, 3), dtype=np.int64)
    spike[4, 4] = 81 * 81
    smooth = renditions.blur(spike, 1)
    assert smooth[4, 4, 0] == 81 * 9 and smooth.sum() == spike.sum()
    flat = np.full((9, 9, 3), 77)
    assert (renditions.blur(flat, 2) == 77).all()


def test_inverted_is_the_complement_of_plain():
    plain = renditions.rendition("blue star", 64, "plain", Draws("i"))
    inverted = renditions.rendition("blue star", 64, "inverted", Draws("i"))
    assert (plain.astype(int) + inverted == 255).all()


def test_the_worlds_need_no_torch():
    code = (
        "import sys, clclip.data.shapes.worlds as s; s.world_spec('shapes20');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
