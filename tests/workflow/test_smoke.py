"""The real thing in small: the smoke configuration from nothing to the report, and again."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

KEYS = (
    "experiment kind method dataset protocol seeds tasks final std forgetting average matrix "
    "metric versions"
).split()


@pytest.fixture(scope="module")
def smoke(root, tmp_path_factory):
    """The working directory of a finished smoke run, and what the run said."""
    work = tmp_path_factory.mktemp("smoke")
    done = snakemake(root, work)
    assert done.returncode == 0, done.stdout + done.stderr
    return work, done.stdout + done.stderr


def snakemake(root, work, *options):
    """Run the smoke configuration in ``work``, as a user would from another folder."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-s", str(root / "Snakefile")]
    command += ["--directory", str(work), "--configfile", str(root / "config/smoke.yaml"), *options]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, timeout=600
    )


def test_summaries_have_the_keys_of_the_contract(smoke):
    work, _ = smoke
    for name in ("smoke_fvit", "smoke_clclip"):
        summary = json.loads((work / "results" / name / "summary.json").read_text())
        assert not set(KEYS) - set(summary)
        assert [task["task"] for task in summary["tasks"]] == [1, 2]
        assert summary["tasks"][0]["P"] is None and summary["std"]["A"] is None
        assert 0 <= summary["final"]["A"] <= 100 and summary["metric"] == "AP50 (area)"
        seed = json.loads((work / "results" / name / "seed0" / "summary.json").read_text())
        assert seed["final"] == summary["final"]


def test_every_task_has_its_files_and_logs(smoke):
    work, _ = smoke
    names = "task.json train.json test.json weights.safetensors history.csv predictions.json"
    for name in ("smoke_fvit", "smoke_clclip"):
        for task in (1, 2):
            folder = work / "results" / name / "seed0" / f"task{task}"
            for file in [*names.split(), "scores.json"]:
                assert (folder / file).stat().st_size > 0
            for stage in ("resolve", "split", "train", "predict", "score"):
                assert f"done stage={stage} " in (folder / "logs" / f"{stage}.log").read_text()
    left = {path.name for path in work.iterdir()}
    assert left <= {"results", "resources", ".snakemake"}


def test_run_ends_with_the_table_and_the_report(smoke):
    work, said = smoke
    page = work / "results" / "report.html"
    assert f"report: {page.resolve()}" in said and "mAP@A" in said
    assert "<html" in page.read_text(encoding="utf-8")
    with (work / "results" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["experiment"] for row in rows] == ["smoke_fvit", "smoke_clclip"]


def test_what_is_left_of_the_open_vocabulary_is_told_of_a_finished_run(smoke):
    work, _ = smoke
    run = work / "results" / "smoke_clclip" / "seed0"
    done = subprocess.run(
        [sys.executable, "-m", "clclip", "open-vocabulary", run, "--out", work / "rows.json"],
        cwd=work,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((work / "rows.json").read_text())
    later = json.loads((run / "task2" / "task.json").read_text())["groups"][1]
    assert row["task"] == 1 and sorted(row["per_class"]) == sorted(later)
    assert 0 < row["AP"] <= 100 and f"{row['AP']:.1f}" in done.stdout
    (work / "rows.json").unlink()


def test_second_run_has_nothing_to_do(root, smoke):
    done = snakemake(root, smoke[0])
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.slow
def test_snakemakes_own_report_holds_page_and_table(root, smoke):
    """The catalogue promises `snakemake --report`; it fetches nothing."""
    work, _ = smoke
    done = snakemake(root, work, "--report", "report.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(work / "report.zip") as packed:
        names = {Path(name).name for name in packed.namelist()}
        page = packed.read("report/report.html").decode("utf-8")
    (work / "report.zip").unlink()
    assert {"report.html", "summary.csv"} <= names
    assert "train_task" in page


def test_costly_jobs_tell_time_and_memory(smoke):
    work, _ = smoke
    costly = [*work.glob("results/*/seed0/task*/logs/*.tsv"), *work.glob("resources/*/*/*.tsv")]
    assert len([path for path in costly if path.name == "train.tsv"]) == 4 + 1  # and features
    for path in costly:
        (row,) = csv.DictReader(path.read_text().splitlines(), delimiter="\t")
        assert float(row["s"]) > 0
