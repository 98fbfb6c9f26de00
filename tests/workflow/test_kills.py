"""Exact resume: training that is killed at random moments ends as if nothing had happened."""

import random
import re
import time

import pytest
from kill_world import World, make_world

DETECTION = """
base: smoke_clclip
training: {epochs: 3, batch_size: 2}
switches: {rpn_batch: 32, roi_batch: 16, proposals_train: 60}
"""
CLASSIFICATION = """
base: smoke_seca
training: {epochs: 6, batch_size: 4}
"""
RUNS, LATE = 20, 14  # kills, and how many of them come after the first saved state


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process cannot use its parent's threads
    yield
    torch.set_num_threads(before)


def outputs(world: World) -> dict[str, bytes]:
    names = ("weights.safetensors", "predictions.json")
    return {name: (world.folder / name).read_bytes() for name in names}


def resumed_at(log: str) -> int:
    found = re.search(r"resumed at step (\d+)", log)
    return int(found.group(1)) if found else 0


def uninterrupted(world: World) -> tuple[dict[str, bytes], float]:
    """Return the outputs of a run that nobody kills, and the seconds of its training."""
    start = time.monotonic()
    assert resumed_at(world.finish("train")) == 0
    seconds = time.monotonic() - start
    world.finish("predict")
    return outputs(world), seconds


def killed_and_finished(
    world: World, wanted: dict[str, bytes], seconds: float, draws: random.Random, late: bool
) -> int:
    """Kill training at a random moment, finish it and predict; return the step it went on from."""
    while True:
        world.forget()
        # states at every step in some runs, so that kills also hit the writing of one
        save = draws.choice([0.0, seconds / 20])
        if world.kill(late, draws.uniform(0, 0.7 * seconds), save):
            break
    weights = world.folder / "weights.safetensors"
    assert not weights.exists() or weights.read_bytes() == wanted[weights.name]  # never half
    step = resumed_at(world.finish("train"))
    assert not world.state.parent.exists()  # removed on success
    world.finish("predict")
    return step


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_twenty_killed_trainings_end_bit_for_bit_as_the_uninterrupted_one(tmp_path):
    world = make_world(tmp_path, DETECTION, train=2)
    wanted, seconds = uninterrupted(world)
    draws = random.Random(0)
    steps = []
    for run in range(RUNS):
        steps.append(killed_and_finished(world, wanted, seconds, draws, late=run < LATE))
        assert outputs(world) == wanted, f"run {run}, resumed at step {steps[-1]}"
    assert sum(step > 0 for step in steps) >= 12, steps
    assert len(set(steps)) > 6, steps  # at many different moments


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_killed_classification_ends_bit_for_bit_as_the_uninterrupted_one(tmp_path):
    world = make_world(tmp_path, CLASSIFICATION, train=2)
    wanted, seconds = uninterrupted(world)
    draws = random.Random(1)
    steps = []
    for run in range(6):
        steps.append(killed_and_finished(world, wanted, seconds, draws, late=run < 5))
        assert outputs(world) == wanted, f"run {run}, resumed at step {steps[-1]}"
    assert sum(step > 0 for step in steps) >= 4, steps
