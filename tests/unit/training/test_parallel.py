"""Two processes that share every batch give the losses of one process."""

from __future__ import annotations

import json
import os
import time

import pytest
import torch
from torch import distributed, multiprocessing, nn

from clclip.training import parallel
from tests.helpers.detection import clclip, fvit
from tests.helpers.shares import run_steps

GROUPS = [["ace", "jack", "king"], ["nine", "queen", "ten"]]


def models():
    return {"fvit": fvit(GROUPS), "clclip": clclip(GROUPS, shared="drift", orthogonality="maps")}


def share_of_two(rank, folder, port):
    """Train as one of two processes; the first one writes what it saw."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    rows = {
        f"{name} {parts}": run_steps(model, folder / name / str(parts), micro_batches=parts)
        for parts in (1, 2)
        for name, model in models().items()
    }
    unequal = nn.Parameter(torch.full((2,), float(rank)))
    unused = nn.Parameter(torch.zeros(2))
    if rank == 0:  # the other process has no gradient for it
        unequal.sum().backward()
    parallel.sum_gradients([unequal, unused])
    parallel.share_from_first([unequal.data])
    found = {
        "rows": rows,
        "gradient": unequal.grad.tolist(),
        "unused": unused.grad is None,
        "shared": unequal.tolist(),
    }
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    port = 20_000 + (os.getpid() + int(time.time())) % 20_000
    multiprocessing.spawn(share_of_two, (folder, port), nprocs=2)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", ["fvit", "clclip"])
def test_two_processes_give_the_losses_of_one(pair, name, parts, tmp_path):
    torch.set_num_threads(1)
    alone = run_steps(models()[name], tmp_path, micro_batches=1)
    for process in pair:
        together = process["rows"][f"{name} {parts}"]
        assert len(together) == len(alone) == 5
        for a, b in zip(alone, together, strict=True):
            assert set(a) == set(b)
            for key in set(a) - {"images_per_s", "peak_mib"}:
                assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-5), (key, a["step"])


def test_gradients_are_summed_and_an_unused_parameter_stays_without(pair):
    for process in pair:
        assert process["gradient"] == [1.0, 1.0] and process["unused"]
        assert process["shared"] == [0.0, 0.0]


def test_one_process_alone_needs_no_group():
    assert parallel.processes() == 1 and parallel.rank() == 0
    assert parallel.gathered("x") == ["x"]
    weight = nn.Parameter(torch.ones(1))
    parallel.sum_gradients([weight])
    assert weight.grad is None
