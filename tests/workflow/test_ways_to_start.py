"""Root, workflow/, a module, `clclip run`: every way of starting plans the same jobs."""

import os
import subprocess
import sys

import pytest

from clclip.workflow.start import launch
from tests.helpers.workflow.project import jobs

MODULE = """
configfile: "config/config.yaml"

module clclip:
    snakefile: "{root}/workflow/Snakefile"
    config: config

use rule * from clclip{renamed}
"""


def dry_run(work, line):
    """Return the jobs that a command line plans in ``work``, and what it said."""
    values = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [*line, "--dry-run"],
        cwd=work,
        env=values | {"PWD": str(work)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "workflow specific profile" in said  # else a space in a rule retrains everything
    return jobs(said), said


def snakemake(*options):
    return [sys.executable, "-m", "snakemake", "--cores", "2", *options]


@pytest.fixture(scope="module")
def usual(root, tmp_path_factory):
    """The jobs of the smoke run by the root Snakefile."""
    work = tmp_path_factory.mktemp("usual")
    smoke = ("--configfile", str(root / "config/smoke.yaml"))
    found, _ = dry_run(work, snakemake("-s", str(root / "Snakefile"), *smoke))
    assert {"train_task 0/2", "report", "split_task 0/1"} <= found
    return found


def deployed(root, work, renamed=""):
    """Lay out what snakedeploy makes of this repository: config, profiles, a lone module."""
    for name in ("workflow", "config", "profiles/default"):
        (work / name).mkdir(parents=True)
    (work / "workflow/Snakefile").write_text(MODULE.format(root=root, renamed=renamed))
    (work / "config/config.yaml").write_bytes((root / "config/smoke.yaml").read_bytes())
    profile = "profiles/default/config.yaml"
    (work / profile).write_bytes((root / profile).read_bytes())


@pytest.mark.parametrize("way", ["workflow/Snakefile", "module", "renamed module", "clclip run"])
def test_every_way_plans_the_same_jobs(root, tmp_path, usual, way):
    line = snakemake()
    if way == "workflow/Snakefile":
        line += ["-s", str(root / way), "--configfile", str(root / "config/smoke.yaml")]
    elif way == "clclip run":
        line = launch.command(smoke=True)
    else:
        deployed(root, tmp_path, " as my_*" if way == "renamed module" else "")
    found, _ = dry_run(tmp_path, line)
    assert {job.removeprefix("my_") for job in found if job != "my_all"} == usual


def test_a_run_names_experiments_files_and_seeds(root, tmp_path):
    (tmp_path / "my own, odd").mkdir()
    (tmp_path / "my own, odd" / "mine.yaml").write_text("base: smoke_fvit\n")
    given = ["smoke_clclip", "my own, odd/mine.yaml"]
    line = launch.command(given, ["--quiet", "rules", "--config", "wandb=off"], seeds="0,1")
    _, said = dry_run(tmp_path, line)
    assert f"{root / 'profiles/default'} " in said
    counted = dict(row.split() for row in said.splitlines() if row.startswith("train_task "))
    assert counted == {"train_task": "8"}  # two experiments of two tasks, two seeds


def test_bad_input_ends_a_run_with_one_line(tmp_path):
    done = subprocess.run(
        launch.command(["no_such"]), cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "unknown experiment 'no_such'" in told[0]
    assert "Traceback" not in done.stderr and not (tmp_path / "results").exists()


def test_the_folder_of_the_catalogue_plans_both_kinds(root, tmp_path):
    line = snakemake("-s", str(root / "Snakefile"), "--quiet", "rules")
    _, said = dry_run(tmp_path, [*line, "--configfile", str(root / ".test/config/config.yaml")])
    counted = dict(row.split() for row in said.splitlines() if row.startswith("report "))
    assert counted == {"report": "1"}
