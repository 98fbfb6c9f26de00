"""Inversion of old objects: targets, statistics, objective, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from clclip.core.errors import InputError
from clclip.detection.methods.fvit_ior.inversion import (
    BINS,
    Recipe,
    augmented,
    draw_box,
    drawn_regions,
    invert,
    merged_statistics,
    ratio_histogram,
    token_statistics,
    total_variation,
)
from clclip.detection.methods.fvit_ior.objects import (
    invert_classes,
    read_statistics,
    stored_statistics,
)
from clclip.detection.weights import load_chain, save_weights
from clclip.training.seeds import generator
from tests.helpers.detection import (
    NAMES,
    WIDTH,
    snapshot,
)
from tests.helpers.methods import GROUPS, ToySource, labelled, make


def test_histograms_count_every_box_once_and_have_no_impossible_ratio():
    g = generator("boxes")
    corner = torch.rand(200, 2, generator=g) * 50
    boxes = torch.cat([corner, corner + 2 + torch.rand(200, 2, generator=g) * 40], dim=1)
    edges, counts = ratio_histogram(boxes)
    assert len(edges) == len(counts) == BINS and int(counts.sum()) == 180
    assert (edges.abs() >= 1).all()
    same = ratio_histogram(torch.tensor([[0.0, 0, 8, 4]]).expand(20, 4))
    assert int(same[1].sum()) == 18
    assert int(ratio_histogram(torch.zeros(0, 4))[1].sum()) == 0


@pytest.mark.parametrize("ratio", [1.0, 3.0, 20.0, -1.0, -7.0, -20.0])
def test_targets_lie_inside_the_canvas(ratio):
    edges, counts = torch.full((BINS,), ratio), torch.ones(BINS)
    draws = generator("target", int(ratio))
    for _ in range(50):
        x0, y0, x1, y1 = draw_box(edges, counts, 64, draws).tolist()
        assert min(x0, y0) >= -1e-3 and max(x1, y1) <= 64 + 1e-3
        w, h = x1 - x0, y1 - y0
        assert 0.6 * 64 - 1e-3 <= max(w, h) <= 0.8 * 64 + 1e-3
        wide = w / h if ratio > 0 else h / w
        assert wide == pytest.approx(abs(ratio), rel=1e-3)


def test_merged_statistics_equal_a_single_pass():
    taps = [torch.randn(6, 5, 4, 4, generator=generator("taps", k)) + k for k in range(3)]
    whole = token_statistics(taps)
    parts = [token_statistics([t[a:b] for t in taps]) for a, b in ((0, 1), (1, 4), (4, 6))]
    merged = merged_statistics(parts)
    assert merged.count == whole.count == 96
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.variance, whole.variance)


def test_total_variation_by_hand():
    flat = torch.full((1, 3, 4, 4), 0.3)
    assert float(total_variation(flat)) == 0
    stripes = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(1, 3, 4, 4)
    assert float(total_variation(stripes)) == pytest.approx(3.0)  # all but the vertical one


def test_augmented_boxes_follow_the_pixels():
    for n in range(10):
        images = torch.zeros(1, 3, 64, 64)
        images[..., 20:40, 24:36] = 1.0
        box = torch.tensor([[24.0, 20, 36, 40]])
        shown, moved = augmented(images, box, generator("augment", n))
        rows, columns = torch.where(shown[0, 0] > 0.5)
        x0, y0, x1, y1 = moved[0].tolist()
        if len(rows):  # not erased
            assert columns.min() >= x0 and columns.max() < x1
            assert rows.min() >= y0 and rows.max() < y1
    edge = torch.tensor([[0.0, 0, 1.5, 30]])
    for n in range(10):
        _, moved = augmented(torch.zeros(1, 3, 64, 64), edge, generator("thin", n))
        assert (moved[:, 2:] - moved[:, :2] >= 1).all() and (moved >= 0).all() and moved.max() <= 64


def test_regions_around_a_target_are_either_near_or_far():
    boxes = torch.tensor([[10.0, 10, 50, 30]])
    (regions,) = drawn_regions(boxes, 64, 30, generator("regions"))
    overlap = box_iou(regions, boxes)[:, 0]
    assert float(overlap[0]) == pytest.approx(1) and (overlap[:31] >= 0.5).all()
    assert (overlap[31:] < 0.3).all() and len(regions) > 40


def test_inversion_moves_pixels_and_no_parameter():
    model = make("fvit_ior", GROUPS[:1]).requires_grad_(False)
    source = ToySource()
    before, weight = snapshot(model), source.tower.weight.clone()
    boxes = torch.tensor([[8.0, 8, 50, 40], [10, 4, 40, 52]])
    statistics = token_statistics(source.tower(torch.randn(4, 3, 64, 64)).taps)

    def run(steps):
        recipe = Recipe(steps=steps, size=64)
        columns = torch.tensor([0, 2])
        encode = lambda x: source.tower.with_gradient(x).taps  # noqa: E731
        draws = generator("invert")
        mean, std = source.mean, source.std
        return invert(model, encode, mean, std, boxes, columns, statistics, recipe, draws)

    first, loss = run(1)
    images, later = run(25)
    assert images.shape == (2, 3, 64, 64) and images.min() >= 0 and images.max() <= 1
    assert not torch.equal(first, images) and later < loss
    assert torch.equal(run(25)[0], images)  # from the seed alone
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(source.tower.weight, weight) and source.tower.weight.grad is None


def test_inverted_objects_of_a_task_from_stored_statistics(tmp_path):
    source, images = ToySource(), labelled(6, classes=3)
    stored = stored_statistics(images, 3, source, 32, (0, 1))
    assert all(value.dtype != torch.uint8 for value in stored.values())  # no picture among them
    first = make("fvit_ior", GROUPS[:1])
    path = tmp_path / "weights.safetensors"
    save_weights(path, {**first.state_dict(), **stored}, {"memory": "[]"})
    statistics, edges, counts = read_statistics([path])
    assert edges.shape == counts.shape == (3, BINS) and statistics.mean.shape == (3, WIDTH)
    model = make("fvit_ior", GROUPS, invert_objects=2, invert_steps=2, invert_size=32)
    load_chain(model, [path])
    model.begin_task()
    made = invert_classes(model.teacher, NAMES[:3], NAMES[:5], [path], source, (0, 2))
    assert sorted(c.name for c in made) == sorted(NAMES[:3] * 2)
    assert all(c.image is None and max(c.pixels.shape[1:]) <= 32 for c in made)
    again = invert_classes(model.teacher, NAMES[:3], NAMES[:5], [path], source, (0, 2))
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(made, again, strict=True))
    with pytest.raises(InputError, match="invert_size"):
        stored_statistics(images, 3, source, 33, (0, 1))
    save_weights(path, first.state_dict(), {})
    with pytest.raises(InputError, match="made by fvit_ior"):
        read_statistics([path])
