"""``clclip cache``: sizes, states and eviction."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest

from clclip.cli.main import main
from clclip.workflow.cache import entries


@pytest.fixture
def resources(tmp_path):
    root = tmp_path / "resources"
    for name, size in (("small", 1000), ("large", 5000)):
        for split in ("train", "test"):
            folder = root / "features" / name / split
            folder.mkdir(parents=True)
            np.save(folder / "dense.npy", np.zeros(size, np.uint8))
            (folder / "done.json").write_text("{}")
    building = root / "features" / "building" / ".train-abc"
    building.mkdir(parents=True)
    (building / "dense.npy").write_bytes(b"0" * 10)
    killed = root / "features" / "killed" / ".train-abc"
    killed.mkdir(parents=True)
    (killed / "done.json").write_text("{}")  # finished, but never moved to its place
    shared = root / "tasks" / "train-0123"
    shared.mkdir(parents=True)
    (shared / "files.json").write_text("{}")
    old = time.time() - 3 * 86_400
    for path in (root / "features" / "small", root / "features" / "killed"):
        for each in (*path.rglob("*"), path):
            os.utime(each, (old, old))
    return root


def names(root):
    return {entry.id: entry.state for entry in entries(root)}


def run(root, *arguments):
    return main(["cache", *arguments, "--resources", str(root)])


def test_sizes_ages_and_states(resources, capsys):
    found = {entry.id: entry for entry in entries(resources)}
    assert [entry.id for entry in entries(resources)][:2] == ["large", "small"]
    assert found["large"].bytes == 2 * (5000 + 128 + 2)  # numpy's header, the marker
    assert found["small"].days == pytest.approx(3, abs=0.01) and found["large"].days < 0.01
    assert names(resources) == {
        "small": "complete",
        "large": "complete",
        "building": "in work",
        "killed": "left over",
        "train-0123": "complete",
    }
    assert run(resources, "list") == 0
    assert "5 entries" in capsys.readouterr().out
    assert run(resources, "list", "--kind", "tasks", "--json") == 0
    assert [e["id"] for e in json.loads(capsys.readouterr().out)] == ["train-0123"]
    assert entries(resources / "nowhere") == []


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["large"], {"small", "building", "killed", "train-0123"}),
        (["--older-than", "1"], {"large", "building", "train-0123"}),
        (["--left-over"], {"small", "large", "building", "train-0123"}),
        (["--all", "--kind", "features"], {"building", "train-0123"}),
        (["--all"], {"building"}),
        (["building"], {"small", "large", "killed", "train-0123"}),
    ],
)
def test_eviction_takes_what_is_chosen_and_no_work_in_progress_unless_named(
    resources, arguments, left
):
    assert run(resources, "evict", *arguments) == 0
    assert set(names(resources)) == left
    assert not [p for p in resources.iterdir() if p.name.startswith(".")]


def test_a_reader_goes_on_after_eviction(resources):
    array = np.load(resources / "features/large/train/dense.npy", mmap_mode="r")
    assert run(resources, "evict", "large") == 0
    assert array.sum() == 0 and not (resources / "features/large").exists()


def test_a_wrong_choice_is_told(resources, capsys):
    for arguments, message in (
        (["evict"], "nothing chosen"),
        (["evict", "larg"], "large"),
        (["list", "--all"], "cache evict"),
        (["evict", "--older-than", "-1"], "--older-than -1"),
        (["evict", "--older-than", "nan"], "--older-than nan"),
    ):
        assert run(resources, *arguments) == 2
        assert message in capsys.readouterr().err
    assert len(names(resources)) == 5
