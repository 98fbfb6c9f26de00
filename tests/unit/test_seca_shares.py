"""Micro-batches of classification give the losses and weights of the whole batch."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from seca_making import small_clip, tokenizer, write_stream

import clclip.clip.load
from clclip.classification import stages
from clclip.classification.adapters import seeded_dropout
from clclip.classification.sgakt import updated_utility
from clclip.training import fit as fit_module
from clclip.training.seeds import generator

GROUPS = [["ant", "bee", "gnu"], ["cat", "dog"]]


@pytest.fixture(autouse=True)
def _world(monkeypatch):
    loaded = {"tokenizer": tokenizer, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    monkeypatch.setattr(
        clclip.clip.load, "load_clip", lambda folder: SimpleNamespace(model=small_clip(), **loaded)
    )
    monkeypatch.setattr(fit_module, "RECORD_STEPS", 1)


def trained(base, method, attempt, switches):
    """Return per task the rows of the history and the weights."""
    files = write_stream(base, method, GROUPS, switches, optimizer="sgd", lr=1e-3)
    found = []
    for file in files:
        stages.train(file, base / "resources", attempt=attempt)
        with (file.parent / "history.csv").open() as history:
            rows = list(csv.DictReader(history))
        found.append((rows, load_file(file.parent / "weights.safetensors")))
    return found


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
        parts = trained(tmp_path / str(attempt), method, attempt, switches)
        for (rows, weights), (other_rows, other) in zip(whole, parts, strict=True):
            assert len(rows) == len(other_rows) >= 4
            for a, b in zip(rows, other_rows, strict=True):
                for key in set(a) - {"images_per_s", "peak_mib"}:
                    assert float(b[key]) == pytest.approx(float(a[key]), rel=1e-5, abs=1e-5), key
            assert set(weights) == set(other)
            for name, tensor in weights.items():
                torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-4, msg=name)


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
