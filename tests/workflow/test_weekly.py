"""The page on the weekly loop, followed word by word: export, learn on, verify, drop, ship."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.helpers.docs import blocks, files_to_write

pytestmark = pytest.mark.slow


def test_the_page_runs_as_it_is_typed(root, tmp_path):
    page = root / "docs/weekly.md"
    for name, text in files_to_write(page).items():
        (tmp_path / name).write_text(text)
    said = []
    for language, text in blocks(page):
        for line in text.splitlines() if language == "sh" else ():
            words = line.removeprefix("uv run ").replace(
                "snakemake", f"snakemake -s {root}/Snakefile"
            )
            words = words.replace("--cores all", "--cores 2")
            done = subprocess.run(
                words, shell=True, cwd=tmp_path, capture_output=True, text=True, env=os.environ
            )
            assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
            said.append(done.stdout)
            if "export" in line:  # nothing of a run is needed once its model is there
                shutil.rmtree(tmp_path / "results")
                shutil.rmtree(tmp_path / "resources/features")
    assert any("passed: 5 unchanged, 2 new" in text for text in said)
    assert any("passed: 6 unchanged, 1 gone" in text for text in said)
    assert json.loads((tmp_path / "proof.json").read_text())["passed"]
    found = json.loads((tmp_path / "boxes/dataset.json").read_text())
    assert len(found["images"]) == 100 and "red square" not in str(found["categories"])
