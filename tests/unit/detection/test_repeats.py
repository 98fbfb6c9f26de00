"""Repeat factor sampling: the published factors, and an epoch that keeps its length."""

from __future__ import annotations

import pytest
import torch

from clclip.config.resolve import resolve_training
from clclip.core.errors import InputError
from clclip.detection.inputs.dataset import FeatureBatches, LabelledImage
from clclip.detection.inputs.repeats import repeat_factors, repeated_order


def labels(*groups):
    return [torch.tensor(own, dtype=torch.int64) for own in groups]


def image(number, own):
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).repeat(len(own), 1)
    return LabelledImage(
        number, 8, 8, boxes, torch.tensor(own, dtype=torch.int64), torch.zeros(0, 4)
    )


def test_factors_are_those_of_the_paper():
    # class 0 in 8 of 10 images, class 1 in 1, class 2 (twice in one image) in 2
    found = repeat_factors(labels([0, 1], [0, 2, 2], [2], *[[0]] * 6, []), 0.4)
    root = [(0.4 / 0.1) ** 0.5, (0.4 / 0.2) ** 0.5, (0.4 / 0.2) ** 0.5]
    assert found.tolist() == pytest.approx([*root, *[1.0] * 7])


def test_a_rare_image_comes_its_factor_times_and_never_none():
    factors = torch.tensor([2.5] * 4 + [1.0] * 60, dtype=torch.float64)
    wanted = 64 * factors / factors.sum()
    counts = torch.zeros(64)
    for epoch in range(400):
        order = repeated_order(factors, torch.Generator().manual_seed(epoch))
        times = torch.bincount(torch.tensor(order), minlength=64)
        assert len(order) == 64
        assert ((times == wanted.floor()) | (times == wanted.floor() + 1)).all()
        assert (times[:4] >= 2).all()
        counts += times
    assert (counts / 400 - wanted).abs().max() < 0.1


def test_order_depends_on_the_epoch_alone():
    factors = torch.tensor([1.0, 3.0, 1.0, 1.7], dtype=torch.float64)
    orders = [repeated_order(factors, torch.Generator().manual_seed(s)) for s in (3, 3, 4, 5, 6)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 2


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_equal_factors_show_every_image_once(count):
    order = repeated_order(torch.ones(count, dtype=torch.float64), torch.Generator().manual_seed(1))
    assert sorted(order) == list(range(count))


def test_batches_repeat_only_when_asked():
    images = [image(k, [1] if k == 7 else [0]) for k in range(40)]
    plain = FeatureBatches(images, source=None)
    rare = FeatureBatches(images, source=None, repeat_threshold=0.5)
    assert sorted(plain.order(0)) == list(range(40))
    assert rare.order(0).count(7) >= 3
    assert len(rare.order(0)) == 40
    assert rare.order(0) == rare.order(0) != rare.order(1)


def test_the_key_is_in_task_json_only_when_set():
    assert "repeat_threshold" not in resolve_training("detection", {}, "x.yaml")
    assert "repeat_threshold" not in resolve_training("detection", {"repeat_threshold": 0}, "x")
    assert resolve_training("detection", {"repeat_threshold": 0.1}, "x")["repeat_threshold"] == 0.1
    with pytest.raises(InputError, match=r"repeat_threshold 0\.1 for classification"):
        resolve_training("classification", {"repeat_threshold": 0.1}, "x.yaml")
    with pytest.raises(InputError, match="repeat_threshold"):
        resolve_training("detection", {"repeat_threshold": 1.5}, "x.yaml")
