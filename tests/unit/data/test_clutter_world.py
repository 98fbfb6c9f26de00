"""Cluttered worlds: frozen bytes, boxes of what is seen, and one knob per difficulty."""

import hashlib
import json

import numpy as np
import pytest

from clclip.core.errors import InputError
from clclip.data.shapes import clutter, places
from clclip.data.shapes import worlds as scenes
from clclip.data.shapes.clutter import cluttered_scene
from clclip.data.shapes.difficulty import Difficulty
from clclip.data.shapes.objects import class_names, split_name
from clclip.data.shapes.random import Draws
from clclip.workflow.plan import plan_run

NAMES = class_names(20)
CALM = Difficulty(renditions=0, blurred=0, look_alikes=0, strokes=0)


def with_knobs(knobs: Difficulty, **changes) -> Difficulty:
    return knobs.model_copy(update=changes)


def world_digest(world: str, numbers: range) -> str:
    """Return a digest of the pixels, boxes and places of the first scenes of both splits."""
    total = hashlib.sha256()
    for split in ("train", "test"):
        for number in numbers:
            pixels, objects, place = scenes.draw_scene(scenes.WORLDS[world], split, number)
            total.update(pixels.tobytes() + json.dumps([objects, place]).encode())
    return total.hexdigest()[:16]


def drawn(knobs: Difficulty, number: int, place: int | None = None):
    return cluttered_scene(NAMES, knobs, 128, place, Draws("knob", number))


def all_drawn(knobs: Difficulty, count: int = 60):
    return [drawn(knobs, number)[1] for number in range(count)]


@pytest.mark.parametrize(
    ("world", "digest"),
    [
        ("clutter20", "275de862a0286fd7"),
        ("clutter20_dev", "686e92bf106a5b61"),
        ("clutter20_tiny", "6ce8b698913242fd"),
        ("clutter20_places", "02d8aaba28238fba"),
        ("clutter80", "8f63e6d1a1f36e5f"),
    ],
)
def test_worlds_are_frozen(world, digest):
    """Published tables were made on these bytes: another hash needs another version."""
    assert scenes.world_spec(world)["version"] == "1"
    assert world_digest(world, range(1, 9)) == digest


def test_boxes_are_the_tight_boxes_of_what_is_seen():
    """Two scenes that differ in the last object alone: what changes is that object."""
    found = 0
    for number in range(30):
        image, objects = drawn(with_knobs(CALM, objects=(2, 2), occlusion=0, theme=0), number)
        empty = places.ground(128, places.NOWHERE, 0, Draws("knob", number))
        changed = (image != empty.astype(np.uint8)).any(axis=2)
        for _, (x, y, w, h) in objects:
            assert 0 <= x and 0 <= y and x + w <= 128 and y + h <= 128
            part = changed[y : y + h, x : x + w]
            assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
            assert 11 <= max(w, h) <= 44
            found += 1
            # only the faint rim of a rotated shape may lie outside
            changed[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1] = False
        assert not changed.any()
    assert found > 50


def shared(first, second) -> float:
    """Return how much of the smaller box two boxes share."""
    x, y = max(first[0], second[0]), max(first[1], second[1])
    right = min(first[0] + first[2], second[0] + second[2])
    bottom = min(first[1] + first[3], second[1] + second[3])
    area = max(right - x, 0) * max(bottom - y, 0)
    return area / min(first[2] * first[3], second[2] * second[3])


def overlaps(scenes_of_objects) -> list[float]:
    return [
        shared(a, b)
        for objects in scenes_of_objects
        for n, (_, a) in enumerate(objects)
        for _, b in objects[:n]
    ]


def test_occlusion_knob():
    crowd = with_knobs(CALM, objects=(7, 7))
    assert max(overlaps(all_drawn(with_knobs(crowd, occlusion=0), 15))) <= 0.15  # rims of a pixel
    assert sum(v > 0.2 for v in overlaps(all_drawn(crowd, 15))) > 10


def test_what_is_hidden_stays_within_the_bound(monkeypatch):
    """No object loses more of its pixels than the knob allows, whoever hides it."""
    canvases = []
    make = clutter._Canvas
    monkeypatch.setattr(
        clutter, "_Canvas", lambda image: canvases.append(make(image)) or canvases[-1]
    )
    all_drawn(with_knobs(Difficulty(), objects=(7, 7), look_alikes=9, occlusion=30), 20)
    left = [
        seen.sum() / own.sum()
        for canvas in canvases
        for own, seen in zip(canvas.own, canvas.seen, strict=True)
    ]
    assert len(canvases) == 20 and 0.7 <= min(left) < 0.9


def test_theme_knob():
    """With a full theme the classes of a scene are of one quarter; without, of any."""
    quarters = [
        {NAMES.index(name) // 5 for name, _ in objects}
        for objects in all_drawn(with_knobs(CALM, theme=100))
    ]
    assert all(len(found) == 1 for found in quarters)
    assert set().union(*quarters) == {0, 1, 2, 3}
    mixed = all_drawn(with_knobs(CALM, theme=0, objects=(6, 6)))
    assert np.mean([len({NAMES.index(n) // 5 for n, _ in objects}) for objects in mixed]) > 2.5


def test_look_alike_knob(monkeypatch):
    """Look-alikes have no box, and are of no class: in their shape or in their colour."""
    made = []
    appearance = clutter._appearance

    def spy(name, classes, draws):
        shape, colour = appearance(name, classes, draws)
        made.append((name, shape))
        return shape, colour

    monkeypatch.setattr(clutter, "_appearance", spy)
    labelled = sum(map(len, all_drawn(with_knobs(CALM, look_alikes=4))))
    of_class = [name for name, _ in made if name]
    strange = [shape for name, shape in made if name is None]
    shapes = {split_name(name)[1] for name in NAMES}
    assert labelled <= len(of_class) and 60 < len(strange) < 180
    assert 0.3 < sum(shape in shapes for shape in strange) / len(strange) < 0.7
    made.clear()
    all_drawn(CALM)
    assert all(name for name, _ in made)


def test_renditions_and_blur_knobs_change_the_pixels_only_where_asked():
    plain = drawn(CALM, 3)[0].astype(int)
    out_of_focus = drawn(with_knobs(CALM, blurred=100), 3)[0].astype(int)
    assert np.abs(np.diff(out_of_focus, axis=0)).mean() < np.abs(np.diff(plain, axis=0)).mean() / 2
    yellow = with_knobs(CALM, objects=(1, 1), renditions=100)
    plain, drawn_anew = (
        [cluttered_scene(["yellow square"] * 4, k, 128, None, Draws("style", n)) for n in range(24)]
        for k in (with_knobs(yellow, renditions=0), yellow)
    )

    def centre(made):
        image, [(_, (x, y, w, h))] = made
        return image[y + h // 2, x + w // 2].astype(int)

    assert all(centre(made)[0] - centre(made)[2] > 90 for made in plain)
    hollow = sum(centre(made)[0] - centre(made)[2] < 90 for made in drawn_anew)
    assert 6 <= hollow <= 22


def test_places_alternate_and_differ_in_ground_and_light():
    assert [clutter.place_of(n, Difficulty(places=2)) for n in (1, 2, 3, 4)] == [1, 2, 1, 2]
    assert clutter.place_of(1, Difficulty()) is None
    colours = [
        np.mean([drawn(CALM, n, place)[0].mean(axis=(0, 1)) for n in range(20)], axis=0)
        for place in (1, 2, 3, 4)
    ]
    for a in range(4):
        for b in range(a):
            assert np.abs(colours[a] - colours[b]).max() > 15
    assert {place.texture for place in places.PLACES} == {"tiles", "stripes", "discs", "strokes"}


def test_the_light_of_a_place_falls_on_objects_too():
    image = np.full((2, 2, 3), 160)
    assert places.lit(image, places.PLACES[1])[0, 0].tolist() == [110, 130, 160]
    assert (places.lit(image, places.NOWHERE) == 160).all()


def test_places_reach_the_annotations(tmp_path):
    scenes.generate("clutter20_tiny", tmp_path / "tiny")
    data = json.loads((tmp_path / "tiny/train.json").read_text())
    assert len(data["images"]) == 60 and not any("place" in image for image in data["images"])
    world = scenes.WORLDS["clutter20_places"]
    assert (world.train, world.difficulty.places) == (1000, 2)
    (tmp_path / "images").mkdir()
    spec = scenes.world_spec("clutter20_places")
    assert spec["places"] == 2
    spec["counts"] = {"train": 4}
    made = scenes._detection(world, spec, "train", tmp_path)
    assert [image["place"] for image in made["images"]] == [1, 2, 1, 2]


def test_other_draws_and_knobs_have_other_ids_and_other_pictures():
    shipped = scenes.find_world("clutter20")
    assert scenes.find_world("clutter20", 0, {"theme": 70}).data_id == "clutter20-v1"
    ids = {
        scenes.world_spec("clutter20", draw, knobs)["data_id"]
        for draw, knobs in [(0, {}), (1, None), (2, {}), (0, {"theme": 0}), (1, {"theme": 0})]
    }
    assert len(ids) == 5
    again = scenes.find_world("clutter20", 1)
    assert (
        scenes.draw_scene(again, "train", 1)[0] != scenes.draw_scene(shipped, "train", 1)[0]
    ).mean() > 0.5
    placed = scenes.find_world("clutter20_places", 0, {"strokes": 3})
    assert placed.difficulty.places == 2 and placed.difficulty.strokes == 3
    assert scenes.world_spec("shapes20", 3)["data_id"] != "shapes20-v1"


def test_a_world_without_knobs_refuses_them():
    with pytest.raises(InputError, match=r"'shapes20' has no difficulty.*clutter20, clutter20_dev"):
        scenes.world_spec("shapes20", 0, {"theme": 0})


@pytest.mark.parametrize(
    ("name", "data", "rule", "tasks"),
    [
        ("clutter20_10_10_fvit", "clutter20-v1", "overlap", 2),
        ("clutter20_10_10_apart_fvit_proto", "clutter20-v1", "non_cooccurrence", 2),
        ("clutter20_places_10_10_clclip", "clutter20_places-v1", "place", 2),
        ("clutter20_places_joint", "clutter20_places-v1", "place", 1),
        ("clutter20_15_1x5_fvit_mma", "clutter20-v1", "overlap", 6),
        ("clutter20_dev_5_5_5_5_clclip_no_text", "clutter20_dev-v1", "overlap", 4),
        ("clutter80_4task_clclip_paper", "clutter80-v1", "overlap", 4),
    ],
)
def test_streams_of_the_cluttered_worlds(name, data, rule, tasks):
    planned = plan_run({"experiments": [name]}).experiments[name]
    assert planned.length == tasks
    payload = planned.tasks[0, tasks].payload
    assert (payload["data"]["id"], payload["data"]["image_rule"]) == (data, rule)
    assert payload["training"]["epochs"] == 6 and payload["training"]["lr"] == 0.002
