"""Region features: a cell's value stands at the cell's centre, for all that is read in boxes."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torchvision.ops import roi_align

from clclip.detection.layers.path import REGION, RegionPooler
from clclip.detection.layers.region_align import region_align
from clclip.detection.layers.region_maps import RegionMaps, pool_maps

BOXES = [
    torch.tensor([[8.0, 12.0, 40.0, 30.0], [60.0, 60.0, 188.0, 170.0]]),
    torch.tensor([[101.0, 3.0, 103.0, 9.0], [20.5, 30.5, 220.5, 200.5]]),
]


def places(strides, size=256):
    """Return levels whose two channels hold the x and y of the cells' centres, in pixels."""
    levels = OrderedDict()
    for n, stride in enumerate(strides):
        at = (torch.arange(size / stride) + 0.5) * stride
        plane = torch.stack(torch.meshgrid(at, at, indexing="xy"))
        levels[str(n)] = plane.expand(2, -1, -1, -1)
    return levels


@pytest.mark.parametrize("strides", [(4.0,), (4.0, 8.0, 16.0)])
def test_a_region_sees_its_own_place(strides):
    pooled = RegionPooler(strides)(places(strides), BOXES)
    assert pooled.shape == (4, 2, REGION, REGION)
    box = torch.cat(BOXES)
    low, high = box[:, :2], box[:, 2:]
    bins = low[:, :, None] + (torch.arange(REGION) + 0.5) / REGION * (high - low)[:, :, None]
    torch.testing.assert_close(pooled[:, 0, 3], bins[:, 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(pooled[:, 1, :, 3], bins[:, 1], atol=1e-3, rtol=0)


def test_gates_and_costs_see_the_same_place():
    maps = places((8.0,))["0"]
    expected = RegionPooler((8.0,))({"0": maps}, BOXES)
    torch.testing.assert_close(pool_maps(maps, BOXES, 8.0), expected, atol=1e-3, rtol=0)
    seen = RegionMaps(maps, BOXES, 8.0)
    for k in range(2):
        column = torch.full((4,), k)
        found = seen[torch.arange(4), column]
        torch.testing.assert_close(found, expected[:, k], atol=1e-3, rtol=0)


def test_each_region_is_read_from_the_level_of_its_size():
    draws = torch.Generator().manual_seed(0)
    strides = (4.0, 8.0, 16.0)
    sizes = {"0": 64, "1": 32, "2": 16, "pool": 8}  # the last has proposals alone
    levels = {k: torch.randn(2, 3, n, n, generator=draws) for k, n in sizes.items()}
    pooler = RegionPooler(strides)
    pooled, chosen = pooler(levels, BOXES), pooler.map_levels(BOXES).tolist()
    assert sorted(set(chosen)) == [0, 1]
    for row, (image, place) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        level = chosen[row]
        one = roi_align(
            levels[str(level)][image : image + 1],
            [BOXES[image][place : place + 1]],
            REGION,
            1 / strides[level],
            aligned=True,
        )
        torch.testing.assert_close(pooled[row], one[0])


def test_no_region_is_no_feature():
    empty = [torch.zeros(0, 4), torch.zeros(0, 4)]
    assert RegionPooler((4.0, 8.0))(places((4.0, 8.0)), empty).shape == (0, 2, REGION, REGION)


@pytest.mark.parametrize("cells", [(9, 13), (3, 40)])
def test_the_gradient_of_a_cpu_is_that_of_roi_align(cells):
    draws = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, *cells, generator=draws)
    corner = torch.rand(40, 2, generator=draws) * 160 - 30  # also outside, also a bin of a hair
    sides = torch.rand(40, 2, generator=draws) ** 3 * 200 + 1e-3
    image = torch.randint(0, 2, (40, 1), generator=draws).sort(0).values.float()
    regions = torch.cat([image, corner, corner + sides], dim=1)
    found, theirs = (maps.clone().requires_grad_() for _ in range(2))
    pooled = region_align(found, regions, REGION, 0.25)
    wanted = roi_align(theirs, regions, REGION, 0.25, aligned=True)
    assert torch.equal(pooled, wanted)
    back = torch.randn(pooled.shape, generator=draws)
    pooled.backward(back)
    wanted.backward(back)
    torch.testing.assert_close(found.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_regions_in_another_order_than_their_images_are_refused():
    regions = torch.tensor([[1.0, 0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 0.0, 8.0, 8.0]])
    with pytest.raises(ValueError, match="each image in turn"):
        region_align(torch.randn(2, 3, 8, 8).requires_grad_(), regions, REGION, 0.25)


def test_half_precision_pools_and_learns_nearly_the_same():
    draws = torch.Generator().manual_seed(0)
    exact = torch.randn(3, 8, 9, 13, generator=draws).bfloat16()
    corner = torch.rand(40, 2, generator=draws) * 60 - 10
    image = torch.randint(0, 2, (40, 1), generator=draws).sort(0).values.float()  # none of 2
    regions = torch.cat([image, corner, corner + 60 * torch.rand(40, 2, generator=draws)], dim=1)
    rough, wanted = exact.clone().requires_grad_(), exact.float().requires_grad_()
    found = region_align(rough, regions, REGION, 0.25)
    told = roi_align(wanted, regions, REGION, 0.25, aligned=True)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(region_align(exact, regions, REGION, 0.25), found)
    back = torch.randn(told.shape, generator=draws)
    found.backward(back.bfloat16())
    told.backward(back)
    for one, other in ((found, told), (rough.grad, wanted.grad)):
        assert (one.float() - other).norm() < 0.01 * other.norm()
    assert not rough.grad[2].any() and rough.grad.dtype == torch.bfloat16
    assert region_align(rough, regions[:0], REGION, 0.25).shape == (0, 8, REGION, REGION)


def test_the_gradient_of_an_image_does_not_depend_on_the_others_in_its_batch():
    draws = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 4, 12, 12, generator=draws)
    regions = torch.tensor([[0.0, 1.0, 2.0, 30.0, 40.0], [1.0, 8.0, 3.0, 20.0, 44.0]])
    both, alone = maps.clone().requires_grad_(), maps[:1].clone().requires_grad_()
    region_align(both, regions, REGION, 0.25).square().sum().backward()
    region_align(alone, regions[:1], REGION, 0.25).square().sum().backward()
    torch.testing.assert_close(both.grad[:1], alone.grad)
    nobody = maps.clone().requires_grad_()
    region_align(nobody, regions[:0], REGION, 0.25).sum().backward()
    assert not nobody.grad.any()
