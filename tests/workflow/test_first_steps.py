"""The tiny shapes world with its own settings: two shares of a batch give the losses of one."""

import json
import os
import time
from pathlib import Path

import pytest

from tests.helpers.workflow.kill import make_world

# more epochs than are trained: with the warm-up of a run of usual length
EXPERIMENT = """
base: smoke_{method}
training: {{epochs: 40, precision: fp32}}
"""
STEPS = 5


class EnoughError(Exception):
    """Raised after the last step that is looked at."""


def first_steps(task: Path, attempt: int = 1) -> list[dict[str, float]]:
    """Train the first steps of a task in this process; return the losses of each."""
    import torch

    from clclip.detection.stages import train as stages
    from clclip.training import fit

    rows: list[dict[str, float]] = []

    def record(_, step, losses, lr):
        rows.append(losses)
        if step == STEPS:
            raise EnoughError

    torch.set_num_threads(1)
    before = fit.RECORD_STEPS, fit.History.record
    fit.RECORD_STEPS, fit.History.record = 1, record
    try:
        stages.train(task, Path("resources"), attempt)
    except EnoughError:
        return rows
    finally:
        fit.RECORD_STEPS, fit.History.record = before
    raise AssertionError("training ended before it was looked at")


def share_of_two(rank: int, task: Path, work: Path, port: int) -> None:
    """Train as one of two processes; the first one writes what it saw."""
    from torch import distributed

    os.chdir(work)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["CLCLIP_SAVE_SECONDS"] = "1e9"
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    rows = first_steps(task)
    (work / f"rank{rank}.json").write_text(json.dumps(rows))
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fvit", "clclip"])
def test_two_shares_of_a_batch_give_the_losses_of_one(method, tmp_path, monkeypatch):
    from torch import multiprocessing

    world = make_world(tmp_path, EXPERIMENT.format(method=method), train=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLCLIP_SAVE_SECONDS", "1e9")
    alone = first_steps(world.task)
    port = 20_000 + (os.getpid() + int(time.time())) % 20_000
    multiprocessing.spawn(share_of_two, (world.task, tmp_path, port), nprocs=2)
    others = {"two micro-batches": first_steps(world.task, attempt=2)}
    for rank in (0, 1):
        others[f"process {rank}"] = json.loads((tmp_path / f"rank{rank}.json").read_text())
    for who, rows in others.items():
        assert len(rows) == len(alone) == STEPS
        for step, (a, b) in enumerate(zip(alone, rows, strict=True), start=1):
            assert set(a) == set(b)
            for name, value in a.items():
                assert b[name] == pytest.approx(value, rel=1e-5, abs=1e-7), (who, step, name)
    assert alone[0] != pytest.approx(alone[-1], rel=1e-2)  # it learns meanwhile
