"""Micro-batches of classification give the losses and weights of the whole batch."""

from __future__ import annotations

import csv
import os
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, multiprocessing

import clclip.clip.load
from clclip.classification import stages
from clclip.classification.seca.adapters import seeded_dropout
from clclip.classification.seca.sgakt import updated_utility
from clclip.training import fit as fit_module
from clclip.training.seeds import generator
from tests.helpers.seca import small_clip, tokenizer, write_stream

GROUPS = [["ant", "bee", "gnu"], ["cat", "dog"]]


def small(_):
    """Return a CLIP of random weights, the same every time."""
    pixels = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return SimpleNamespace(model=small_clip(), tokenizer=tokenizer, **pixels)


@pytest.fixture(autouse=True)
def _world(monkeypatch):
    monkeypatch.setattr(clclip.clip.load, "load_clip", small)
    monkeypatch.setattr(fit_module, "RECORD_STEPS", 1)


def trained(base, method, attempt, switches):
    """Return per task the rows of the history and the weights."""
    files = write_stream(base, method, GROUPS, switches, optimizer="sgd", lr=1e-3)
    for file in files:
        stages.train(file, base / "resources", attempt=attempt)
    return [told(file) for file in files]


def told(file):
    """Return the rows of the history and the weights of a task."""
    with (file.parent / "history.csv").open() as history:
        rows = list(csv.DictReader(history))
    return rows, load_file(file.parent / "weights.safetensors")


def compare(whole, parts):
    """Compare histories and weights of all tasks."""
    for (rows, weights), (other_rows, other) in zip(whole, parts, strict=True):
        assert len(rows) == len(other_rows) >= 4
        for a, b in zip(rows, other_rows, strict=True):
            for key in set(a) - {"images_per_s", "peak_mib"}:
                assert float(b[key]) == pytest.approx(float(a[key]), rel=1e-5, abs=1e-5), key
        assert set(weights) == set(other)
        for name, tensor in weights.items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("method", "switches"),
    [
        ("finetune", {}),
        ("hpeft", {}),
        ("seca", {"pool": 1, "adapter_dropout": 0.5}),
        ("seca_pp", {"adapter_dropout": 0.5}),
    ],
)
def test_micro_batches_give_the_losses_of_the_whole_batch(tmp_path, method, switches):
    whole = trained(tmp_path / "whole", method, 1, switches)
    for attempt in (2, 3):
        compare(whole, trained(tmp_path / str(attempt), method, attempt, switches))


SWITCHES = {"pool": 1, "adapter_dropout": 0.5}


def share_of_two(rank, files, resources, port):
    """Train the stream as one of two processes."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    clclip.clip.load.load_clip = small
    fit_module.RECORD_STEPS = 1
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    for file in files:
        stages.train(file, resources)
        distributed.barrier()  # the second task reads what the first process wrote
    distributed.destroy_process_group()


def test_two_processes_give_the_losses_and_the_memory_of_one(tmp_path):
    alone = trained(tmp_path / "alone", "seca", 1, SWITCHES)
    base = tmp_path / "pair"
    files = write_stream(base, "seca", GROUPS, SWITCHES, optimizer="sgd", lr=1e-3)
    port = 20_000 + (os.getpid() + int(time.time())) % 20_000
    multiprocessing.spawn(share_of_two, (files, base / "resources", port), nprocs=2)
    compare(alone, [told(file) for file in files])


def test_dropout_of_a_share_is_its_part_of_the_whole_batch():
    x = torch.ones(5 * 4, 3)  # four tokens an image
    whole = seeded_dropout(0.5, generator("d"))(x)
    assert 0 < (whole == 0).sum() < whole.numel()
    part = seeded_dropout(0.5, generator("d"), range(2, 4), 5)(x[8:16])
    assert torch.equal(part, whole[8:16])


def test_utility_of_shares_is_that_of_the_batch():
    before, relevance = torch.tensor([0.2, 0.8]), torch.rand(5, 2, generator=generator("r"))
    moved = updated_utility(before, relevance[:2], part=0.4)
    moved = updated_utility(moved, relevance[2:], part=0.6, first=False)
    torch.testing.assert_close(moved, updated_utility(before, relevance))
