"""The pyramid against torchvision's network over plain modules, and its fold under autocast."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torchvision.ops import FeaturePyramidNetwork

from clclip.detection.layers.pyramid import Pyramid, Unresampled, folded, group_norm, laid_out

WIDTH, SCALES = 12, (4.0, 2.0, 1.0, 0.5)


def pyramid(seed: int = 0) -> Pyramid:
    torch.manual_seed(seed)
    made = Pyramid(WIDTH, SCALES, 64)  # two channels a group: a norm of one hides its bias
    for value in made.parameters():
        torch.nn.init.normal_(value, std=0.5)
    return made


def taps(dtype=torch.float32, ties: bool = False) -> list[torch.Tensor]:
    made = [torch.randn(2, WIDTH, 6, 8, dtype=dtype) for _ in SCALES]
    return [tap.round() if ties else tap for tap in made]


def plain(own: Pyramid, given: list[torch.Tensor]) -> OrderedDict[str, torch.Tensor]:
    """Every step by itself, in the ordinary layout."""
    maps = OrderedDict()
    for i, tap in enumerate(given):
        x = torch.nn.LayerNorm.forward(own.norms[i], tap.permute(0, 2, 3, 1))
        maps[str(i)] = own.resamplers[i](x.permute(0, 3, 1, 2).contiguous())
    return FeaturePyramidNetwork.forward(own.fpn, maps)


@pytest.mark.parametrize("ties", [False, True])
def test_levels_and_gradients_are_those_of_plain_modules_bit_for_bit(ties):
    own, given = pyramid(), taps(ties=ties)
    found, wanted = own(given), plain(own, given)
    assert list(found) == list(wanted) == ["0", "1", "2", "3"]
    gradients = []
    for levels in (found, wanted):
        total = sum((level * (level + 1)).sum() for level in levels.values())
        gradients.append(torch.autograd.grad(total, list(own.parameters())))
    for one, other in zip(found.values(), wanted.values(), strict=True):
        assert torch.equal(one, other) and one.is_contiguous()
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("level", [0, 1])
def test_a_lateral_that_doubles_is_the_two_maps_after_each_other(level, half):
    """In float64, which autocast leaves as it is, by either way of doubling."""
    own = pyramid().double()
    x = torch.randn(2, WIDTH, 5, 7, dtype=torch.float64, requires_grad=True)
    double = own.resamplers[level]
    double = double[-1] if level == 0 else double
    lateral = own.fpn.inner_blocks[level]
    values = [x, *double.parameters(), *lateral.parameters()]
    one = Unresampled(x, *folded(double, lateral[0]))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found, two = (
            own.fpn.get_result_from_inner_blocks(given, level) for given in (one, double(x))
        )
        assert found.dtype == torch.float64
    torch.testing.assert_close(found, two, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad((y * (y + 1)).sum(), values) for y in (found, two)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sides", [(6, 8), (5, 7)])  # (5, 7) is halved to (2, 3)
@pytest.mark.parametrize("half", [False, True])
def test_levels_without_gradients_are_those_with_them_bit_for_bit(sides, half):
    own = pyramid()
    given = [torch.randn(2, WIDTH, *sides) for _ in SCALES]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        wanted = own(given)
        with torch.no_grad():
            found = own(given)
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_folded_pyramid_is_the_same_pyramid():
    own = pyramid().double()
    given = taps(torch.float64)
    wanted, keys = own(given), set(own.state_dict())
    own.fold()
    found = own(given)
    assert set(own.state_dict()) == keys
    assert sorted(name for name, _ in own.named_buffers()) == [
        "folded_b0",
        "folded_b1",
        "folded_w0",
        "folded_w1",
    ]
    for one, other in zip(found.values(), wanted.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        own.resamplers[1].weight.mul_(2)  # read no more
    for one, other in zip(own(given).values(), found.values(), strict=True):
        assert torch.equal(one, other)


def test_autocast_leaves_doubling_to_the_laterals_and_float32_does_not(monkeypatch):
    own, given, seen = pyramid(), taps(), []
    kind = type(own.fpn)
    plainly = kind.get_result_from_inner_blocks
    monkeypatch.setattr(
        kind,
        "get_result_from_inner_blocks",
        lambda self, x, k: seen.append(isinstance(x, Unresampled)) or plainly(self, x, k),
    )
    wanted = own(given)
    assert seen == [False] * 4
    with torch.autocast("cpu", torch.bfloat16):
        found = own(given)
    assert sorted(seen[4:]) == [False, False, True, True]
    for one, other in zip(found.values(), wanted.values(), strict=True):
        assert one.shape == other.shape
        assert (one.float() - other).norm() < 0.03 * other.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_of_a_map_does_not_hang_on_its_layout(dtype):
    norm = group_norm(64)
    for value in norm.parameters():
        torch.nn.init.normal_(value)
    x, back = (torch.randn(3, 64, 5, 7).to(dtype) for _ in range(2))
    made = []
    for layout in (torch.contiguous_format, torch.channels_last):
        own = x.contiguous(memory_format=layout).requires_grad_()
        out = norm(own)
        assert out.is_contiguous()
        made.append([out, *torch.autograd.grad(out, [own, *norm.parameters()], back)])
    wanted = torch.nn.functional.group_norm(x, 32, norm.weight, norm.bias)
    assert torch.equal(made[0][0], wanted)
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_convolutions_read_channels_last_in_half_precision_alone():
    x = torch.randn(2, 6, 5, 7)
    mixed = x.contiguous(memory_format=torch.channels_last)
    assert laid_out(x) is x and laid_out(mixed).is_contiguous()
    with torch.autocast("cpu", torch.bfloat16):
        found = laid_out(x)
        assert found.is_contiguous(memory_format=torch.channels_last) and torch.equal(found, x)
        own = pyramid()
        seen = []
        for block in [*own.fpn.inner_blocks[2:], *own.fpn.layer_blocks]:
            block[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        own(taps())
    assert len(seen) == 6
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
