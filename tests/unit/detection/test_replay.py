"""Box memory, pasting and batches with pasted objects."""

from __future__ import annotations

import pytest
import torch

from clclip.core.errors import InputError
from clclip.detection.inputs.dataset import FeatureBatches, LabelledImage
from clclip.detection.methods.fvit_ior.detector import ior_paste
from clclip.detection.methods.fvit_replay import abr_paste, choose_boxes
from clclip.detection.methods.rehearsal.batches import PastedBatches
from clclip.detection.methods.rehearsal.memory import (
    Crop,
    cut,
    nearest_to_mean,
    packed,
    quota,
    trimmed,
    unpacked,
)
from clclip.detection.methods.rehearsal.pasting import (
    ABR_RULE,
    IOR_RULE,
    PasteRule,
    beta_draw,
    conflicts,
    mixup,
    mosaic,
    place,
    resized,
    sized,
)
from clclip.detection.weights import load_chain, save_weights
from clclip.training.seeds import generator
from tests.helpers.detection import (
    NAMES,
)
from tests.helpers.methods import GROUPS, ToySource, crop, labelled, make

# ---- memory -------------------------------------------------------------------------------------


def test_quotas_shrink_as_classes_come():
    assert [quota(2000, n) for n in (10, 15, 20)] == [200, 134, 100]
    crops = [Crop(torch.zeros(3, 2, 2), name, i) for i, name in enumerate("aababb")]
    assert [(c.name, c.image) for c in trimmed(crops, 2)] == [
        ("a", 0),
        ("a", 1),
        ("b", 2),
        ("b", 4),
    ]


def test_the_nearest_to_the_mean_come_first_whatever_their_length():
    rows = torch.tensor([[1.0, 1.0], [50.0, 0.0], [1.0, 0.2], [0.0, 3.0]])
    assert nearest_to_mean(rows, 2).tolist() == [0, 2]
    assert len(nearest_to_mean(rows, 9)) == 4


def test_memory_is_stored_and_read_and_no_network_loads_it(tmp_path):
    crops = [crop(4, 9, "ace", seed=1), crop(2, 3, "jack", seed=2)]
    tensors, told = packed(crops)
    back = unpacked(tensors, told, "x")
    assert [c.name for c in back] == ["ace", "jack"] and back[0].image == 7
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(crops, back, strict=True))
    model = make("fvit_replay", GROUPS[:1])
    save_weights(tmp_path / "w.safetensors", {**model.state_dict(), **tensors}, {"memory": told})
    load_chain(make("fvit_replay", GROUPS[:1], seed=1), [tmp_path / "w.safetensors"])
    for broken in (told[:-1], "[]", '[{"class": "a"}, {"class": "b"}]'):
        with pytest.raises(InputError, match="damaged memory"):
            unpacked(tensors, broken, "x")
    assert unpacked({}, "[]", "x") == []
    assert unpacked(*packed([]), "x") == []


# ---- pasting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [ABR_RULE, IOR_RULE])
def test_pastes_keep_the_overlap_rule_and_repeat_from_the_seed(rule):
    image = torch.full((3, 60, 80), 100, dtype=torch.uint8)
    boxes = torch.tensor([[5.0, 5, 30, 30], [50, 30, 75, 55]])
    crops = [crop(20, 16, value=200), crop(12, 22, value=0), crop(15, 15, value=30)] * 2
    total = 0
    for n in range(30):
        made = mixup(image, boxes, crops, rule, generator("paste", n))
        again = mixup(image, boxes, crops, rule, generator("paste", n))
        assert torch.equal(made.pixels, again.pixels) and torch.equal(made.boxes, again.boxes)
        known = boxes
        for box in made.boxes:
            x0, y0 = torch.maximum(box[:2], known[:, :2]).T
            x1, y1 = torch.minimum(box[2:], known[:, 2:]).T
            shared = (x1 - x0).clamp(min=0) * (y1 - y0).clamp(min=0)
            own = (box[2] - box[0]) * (box[3] - box[1])
            theirs = (known[:, 2] - known[:, 0]) * (known[:, 3] - known[:, 1])
            assert (shared <= rule.other * theirs + 1e-3).all()
            assert (shared <= rule.own * own + 1e-3).all()
            assert (box >= 0).all() and box[2] <= 80 and box[3] <= 60
            known = torch.cat([known, box[None]])
        changed = (made.pixels != image).any(0)
        inside = torch.zeros(60, 80, dtype=torch.bool)
        for x0, y0, x1, y1 in made.boxes.int().tolist():
            inside[y0:y1, x0:x1] = True
        assert not changed[~inside].any()
        assert len(made.boxes) == len(made.names)
        total += len(made.boxes)
    assert total > 30
    different = [mixup(image, boxes, crops, rule, generator("paste", n)).pixels for n in (0, 1)]
    assert not torch.equal(*different)


def test_nothing_is_pasted_into_an_image_that_one_object_fills():
    image = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    made = mixup(image, torch.tensor([[0.0, 0, 39, 39]]), [crop()], ABR_RULE, generator("x"))
    assert torch.equal(made.pixels, image) and made.names == []


def test_the_blend_is_lambda_of_background(monkeypatch):
    monkeypatch.setattr(
        "clclip.detection.methods.rehearsal.pasting.beta_draw", lambda a, b, draws: 0.25
    )
    image = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    made = mixup(image, torch.zeros(0, 4), [crop(10, 10, value=200)], ABR_RULE, generator("y"))
    assert sorted(made.pixels.unique().tolist()) == [100, 175]
    monkeypatch.setattr(
        "clclip.detection.methods.rehearsal.pasting.beta_draw", lambda a, b, draws: 0.0
    )
    pure = mixup(image, torch.zeros(0, 4), [crop(10, 10, value=200)], ABR_RULE, generator("y"))
    assert sorted(pure.pixels.unique().tolist()) == [100, 200]


def test_no_place_is_found_where_none_is_free():
    rule = PasteRule(1, (2, 5), 10, 0.0, 0.0)
    assert place((8, 8), (40, 40), torch.tensor([[0.0, 0, 40, 40]]), rule, generator("z")) is None
    assert conflicts(torch.tensor([0.0, 0, 8, 8]), torch.tensor([[4.0, 4, 9, 9]]), rule)
    assert not conflicts(torch.tensor([0.0, 0, 4, 4]), torch.tensor([[4.0, 4, 9, 9]]), rule)


def test_beta_draws_have_the_mean_of_their_law():
    draws = generator("beta")
    for a, b in ((2, 5), (2, 2)):
        values = [beta_draw(a, b, draws) for _ in range(2000)]
        assert sum(values) / 2000 == pytest.approx(a / (a + b), abs=0.02)


def test_a_mosaic_shows_old_objects_only_around_one_point():
    crops = [crop(20, 20, name, value) for name, value in zip("abcd", (1, 2, 3, 4), strict=True)]
    made = mosaic(64, crops, torch.tensor([114.0] * 3), generator("mosaic"))
    assert made.replaced and made.names == list("abcd") and made.pixels.shape == (3, 64, 64)
    for value, (x0, y0, x1, y1) in zip((1, 2, 3, 4), made.boxes.int().tolist(), strict=True):
        assert (made.pixels[:, y0:y1, x0:x1] == value).all() and x1 - x0 == y1 - y0 == 20
    right, below, both, none = made.boxes
    assert right[0] == none[2] == both[0] and below[1] == none[3] == both[1] == right[3]


def test_sizes_of_crops():
    assert resized(crop(10, 20), 0.5).pixels.shape == (3, 5, 10)
    usual, large = crop(30, 30), crop(90, 90)
    assert sized(usual, 100.0, generator("s")) is usual
    side = sized(large, 100.0, generator("s")).pixels.shape[1]
    assert 40 <= side <= 60


def test_abr_shows_a_quarter_mixed_a_quarter_as_mosaic():
    image = LabelledImage(1, 60, 60, torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0, 4))
    pixels = torch.full((3, 60, 60), 9, dtype=torch.uint8)
    kinds = {"plain": 0, "mixup": 0, "mosaic": 0}
    for n in range(400):
        made = abr_paste(pixels, image, [crop(20, 20)], torch.zeros(3), generator("abr", n))
        kinds["mosaic" if made.replaced else "mixup" if made.names else "plain"] += 1
    assert kinds["plain"] == pytest.approx(200, abs=40)
    assert kinds["mixup"] == pytest.approx(100, abs=35) == kinds["mosaic"]
    assert abr_paste(pixels, image, [], torch.zeros(3), generator("none")).names == []
    assert ior_paste(pixels, image, [], 60, generator("none")).names == []


# ---- batches with pasted objects ----------------------------------------------------------------


def pasted_batches(fixed=False, paste=None):
    crops = [crop(20, 16, "ace", 255), crop(14, 18, "king", 0)]

    def default(pixels, image, draws):
        return abr_paste(pixels, image, crops, torch.zeros(3), draws)

    plain = FeatureBatches(labelled(), ToySource(), (0, 2), "flip")
    return PastedBatches(plain, plain.source, paste or default, NAMES[:5], fixed=fixed)


def test_pasted_batches_repeat_per_image_whatever_the_batch():
    batches = pasted_batches()
    together = batches.training(3, list(range(6)))
    seen = batches.source.seen
    assert sum(len(t["old_boxes"]) for t in together.targets) > 0
    for n in (1, 4):
        alone = batches.training(3, [n])
        assert torch.equal(batches.source.seen[0], seen[n])
        assert torch.equal(alone.targets[0]["old_boxes"], together.targets[n]["old_boxes"])
        assert torch.equal(alone.targets[0]["boxes"], together.targets[n]["boxes"])
    assert {int(k) for t in together.targets for k in t["old_labels"]} <= {0, 2}
    batches.training(4, list(range(6)))
    assert not torch.equal(batches.source.seen, seen)


def test_pasted_boxes_lie_where_their_pixels_lie_and_fixed_ones_stay():
    def paste(pixels, image, draws):
        dark = torch.zeros_like(pixels)
        return mixup(dark, torch.zeros(0, 4), [crop(20, 16, "ace", 255)], ABR_RULE, draws)

    batches = pasted_batches(fixed=True, paste=paste)
    for epoch in range(3):
        made = batches.training(epoch, [0, 1, 2])
        for canvas, target in zip(batches.source.seen, made.targets, strict=True):
            bright = canvas[0] > canvas[0, :48].min() + 0.01
            rows, columns = torch.where(bright[:48])
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            wanted = target["old_boxes"][0].tolist()
            assert [float(v) for v in found] == pytest.approx(wanted, abs=1.01)
    shown = [batches.shown(epoch, 0)[1].boxes for epoch in (0, 5)]
    assert torch.equal(*shown)


def test_a_mosaic_replaces_the_labels():
    batches = pasted_batches()
    kinds = [batches.shown(epoch, n) for epoch in range(8) for n in range(6)]
    replaced = [image for image, pasted in kinds if pasted.replaced]
    assert replaced and all(len(image.boxes) == 0 for image in replaced)
    assert all(image.width == image.height == 56 for image in replaced)
    assert all(len(image.boxes) == 2 for image, pasted in kinds if not pasted.replaced)


def test_chosen_boxes_are_cut_from_their_images():
    model = make("fvit_replay", GROUPS[:1], memory=4)
    source = ToySource()
    images = labelled(6, classes=3)
    batches = FeatureBatches(images, source, (0, 1), "none")
    tensors, told = choose_boxes(model, batches, source, NAMES[:3], 3, step=4)
    crops = unpacked(tensors, told, "x")
    for name in NAMES[:3]:
        assert sum(c.name == name for c in crops) <= quota(4, 3)
    assert len(crops) > 3
    for one in crops:
        image, label = images[one.image], NAMES.index(one.name)
        own = [
            cut(source.pixels(one.image), b, "", 0).pixels
            for b in image.boxes[image.labels == label]
        ]
        assert any(torch.equal(one.pixels, pixels) for pixels in own)
    model = make("fvit_replay", GROUPS[:1], memory_min_side=30)
    few, told = choose_boxes(model, batches, source, NAMES[:3], 3)
    assert unpacked(few, told, "x") == []
