"""Region prototypes: coarse and fine means of a class's regions."""

import pytest
import torch

from clclip.detection.layers.prototypes import class_prototypes, grouped


def around(centre, count, seed):
    noise = torch.randn(count, *centre.shape, generator=torch.Generator().manual_seed(seed))
    return centre + 0.05 * noise


def test_groups_are_those_that_the_rows_form():
    centres = torch.eye(5)[:3]
    rows = torch.cat([around(centre, 6, n) for n, centre in enumerate(centres)])
    group = grouped(rows, 3)
    parts = group.view(3, 6)
    assert (parts == parts[:, :1]).all() and len(parts[:, 0].unique()) == 3
    assert torch.equal(grouped(rows, 3), group)  # no draws
    assert torch.equal(grouped(10 * rows, 3), group)  # directions count, not lengths


def test_coarse_is_the_mean_and_fine_are_those_of_the_groups():
    low, high = torch.zeros(2, 3, 3), torch.ones(2, 3, 3)
    low[0] = 1.0
    regions = torch.cat([around(low, 5, 1), around(high, 3, 2)])
    made = class_prototypes(regions, 2)
    assert made.shape == (3, 2, 3, 3)
    assert torch.allclose(made[0], regions.mean(0))
    fine = sorted(made[1:], key=lambda one: float(one.mean()))
    assert torch.allclose(fine[0], regions[:5].mean(0)) and torch.allclose(
        fine[1], regions[5:].mean(0)
    )


@pytest.mark.parametrize(("objects", "fine"), [(1, 3), (2, 8), (5, 0), (4, 4)])
def test_few_objects_leave_the_coarse_one_in_their_place(objects, fine):
    regions = torch.randn(objects, 2, 3, 3, generator=torch.Generator().manual_seed(3))
    made = class_prototypes(regions, fine)
    assert made.shape == (1 + fine, 2, 3, 3) and torch.isfinite(made).all()
    for rest in made[1 + min(objects, fine) :]:
        assert torch.equal(rest, made[0])
    if objects <= fine:  # every region is a group of its own
        assert {tuple(r.flatten().tolist()) for r in made[1 : 1 + objects]} == {
            tuple(r.flatten().tolist()) for r in regions
        }


def test_equal_regions_make_one_group():
    made = class_prototypes(torch.ones(6, 2, 3, 3), 3)
    assert torch.equal(made, torch.ones(4, 2, 3, 3))
