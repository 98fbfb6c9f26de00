"""Batches in shares: micro-batches and processes give the losses of the whole batch."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from clclip.training.shares import Losses, Share, micro_batches
from tests.helpers.detection import batch, clclip, fvit, make
from tests.helpers.shares import images, run_steps

GROUPS = [["ace", "jack", "king"], ["nine", "queen", "ten"]]


def with_prototypes():
    """Return a detector that replays prototypes."""
    model = make("fvit_proto", GROUPS, proto_fine=1)
    model.prototypes[0].known.fill_(True)
    model.prototypes[0].regions.copy_(
        torch.rand(model.prototypes[0].regions.shape, generator=torch.Generator().manual_seed(4))
    )
    return model


MODELS = {
    "fvit": lambda: fvit(GROUPS),
    "fvit of current columns": lambda: fvit(GROUPS, columns="current"),
    "mma": lambda: make("fvit_mma", GROUPS),
    "replay": lambda: make("fvit_replay", GROUPS),
    "prototypes": with_prototypes,
    "clclip": lambda: clclip(GROUPS),
    "clclip, drift of features": lambda: clclip(GROUPS, shared="drift", orthogonality="maps"),
    "clclip, drift of parameters": lambda: clclip(
        GROUPS, shared="drift", drift="parameter", orthogonality="regions", expert_box=True
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What the steps of a model on whole batches record, computed once."""

    @cache
    def steps(name):
        torch.set_num_threads(1)
        return run_steps(MODELS[name](), tmp_path_factory.mktemp("whole"), micro_batches=1)

    return steps


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("name", MODELS)
def test_micro_batches_give_the_losses_of_the_whole_batch(name, parts, tmp_path, whole):
    torch.set_num_threads(1)
    whole = whole(name)
    shared = run_steps(MODELS[name](), tmp_path / "shared", micro_batches=parts)
    assert len(whole) == 5 and [set(row) for row in whole] == [set(row) for row in shared]
    for a, b in zip(whole, shared, strict=True):
        for key in set(a) - {"images_per_s", "peak_mib"}:
            assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-5), (key, a["step"])
    assert whole[0]["loss"] != pytest.approx(whole[-1]["loss"], rel=1e-3)  # it learns meanwhile


def test_means_of_shares_are_weighted_by_their_counts():
    """The plain mean of micro-batch means is something else: the test above could not fail."""
    model = fvit(GROUPS)
    parts = [model.losses(images(range(k, k + 1))) for k in range(2)]
    assert isinstance(parts[0], Losses)
    clone = clclip(GROUPS)
    counts = {float(clone.losses(images([k])).count("score")) for k in range(4)}
    assert len(counts) > 1


def test_shares_cover_a_batch_once_whatever_its_size():
    for size in (0, 1, 3, 8, 9):
        for of in (1, 2, 3, 8, 10):
            members = list(range(size))
            parts = [Share(k, of).part(members) for k in range(of)]
            assert [m for part in parts for m in part] == members
            assert max(map(len, parts)) <= -(-size // of)


def test_every_retry_halves_the_micro_batch():
    assert [micro_batches(8, attempt) for attempt in (1, 2, 3, 4, 5, 9)] == [1, 2, 4, 8, 8, 8]
    assert [micro_batches(6, attempt) for attempt in (1, 2, 3)] == [1, 2, 6]
    assert micro_batches(1, 3) == 1


def test_a_count_of_nothing_has_the_normaliser_one():
    losses = Losses(images=4)
    losses.add("score", torch.tensor(3.0), torch.tensor(0.0))
    losses["drift"] = torch.tensor(1.0)
    assert losses.count("score") == 0 and losses.count("drift") == 4


def test_batches_of_the_helper_do_not_depend_on_their_company():
    together, alone = images([0, 3]), images([3])
    assert torch.equal(together.taps[0][1], alone.taps[0][0])
    assert len(batch(2).targets) == 2
