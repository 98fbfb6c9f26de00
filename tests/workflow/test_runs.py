"""Whole runs: shared work, hostile names, errors of the config, a copy in another place."""

import json

import pytest

from tests.helpers.workflow.project import EXPERIMENT, copy_project, make_cards


@pytest.fixture(scope="module")
def fresh(root, tmp_path_factory):
    """A project without results."""
    project = copy_project(root, tmp_path_factory.mktemp("fresh"))
    make_cards(
        project.work / "cards", ["ace", "jack", "; rm -rf $HOME `id`", "{input} {0}", "q", "é"]
    )
    return project


def trained(project) -> list[str]:
    """Return the tasks that were really trained, and forget them."""
    record = project.work / "trained.txt"
    lines = record.read_text().split() if record.exists() else []
    record.unlink(missing_ok=True)
    return lines


def test_equal_first_tasks_are_trained_once_and_an_undone_edit_trains_nothing(fresh):
    odd = ["; rm -rf $HOME `id`", "{input} {0}"]
    two = {**EXPERIMENT, "tasks": [["ace", "jack"], odd]}
    three = {**EXPERIMENT, "tasks": [["ace", "jack"], odd[:1], ["é"]]}
    fresh.write("two.yaml", two)
    fresh.write("three.yaml", three)
    fresh.run("experiments=two.yaml,three.yaml")
    first = trained(fresh)
    assert len(first) == 4  # one shared first task, one second task, two further tasks
    assert sum("/task1/" in line for line in first) == 1
    folders = [fresh.work / f"results/{name}/seed0" for name in ("two", "three")]
    weights = [(folder / "task1/weights.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    task = json.loads((folders[0] / "task2/task.json").read_text())
    assert task["groups"][1] == odd  # names reach the task as they are, through no shell

    fresh.write("two.yaml", {**two, "training": {"epochs": 1, "lr": 0.5}})
    fresh.run("experiments=two.yaml,three.yaml")
    assert len(trained(fresh)) == 2
    fresh.write("two.yaml", two)
    fresh.run("experiments=two.yaml,three.yaml")
    assert trained(fresh) == []
    assert (folders[0] / "task1/weights.safetensors").read_bytes() == weights[0]


def test_damaged_store_is_not_used(fresh):
    for path in (fresh.work / "resources/tasks").glob("*/weights.safetensors"):
        path.write_bytes(b"damaged")
    for path in (fresh.work / "results/two").rglob("weights.safetensors"):
        path.unlink()
    fresh.run("experiments=two.yaml", options=["--forcerun", "train_task"])
    assert len(trained(fresh)) == 2
    assert (
        b"damaged" not in (fresh.work / "results/two/seed0/task1/weights.safetensors").read_bytes()
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("experiments=shapes_10_10_clclipp", "did you mean 'shapes_10_10_clclip'?"),
        ("experiment=two.yaml", "unknown key 'experiment' (did you mean 'experiments'?)"),
        ("seeds=-1", "seed -1 is outside"),
        ("data_root=nowhere", "no such folder"),
    ],
)
def test_config_error_ends_snakemake_with_2_and_one_line(fresh, config, message):
    done = fresh.snakemake("--cores", "1", "-n", "--config", config)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in done.stderr + done.stdout


def test_bad_input_of_a_stage_is_told_once_and_ends_with_1(fresh):
    path = fresh.work / "cards" / "test.json"
    before = path.read_text()
    (fresh.home / "clclip" / "stub_commands.py").open("a").write(
        "\n\ndef bad(options):\n"
        "    from clclip.core.errors import InputError\n"
        "    raise InputError('a bad image', 'x.png', 'a whole image')\n\n\n"
        "STUBS['prepare'] = bad\n"
    )
    path.write_text(before.replace("test1.png", "test2.png"))
    try:
        done = fresh.snakemake("--cores", "1", "--config", "experiments=two.yaml")
    finally:
        path.write_text(before)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert text.count("error: a bad image, in x.png, expected a whole image") == 1
    assert "Traceback" not in text


def test_slurm_profile_plans_the_same_jobs(fresh):
    profile = str(fresh.home / "profiles" / "slurm")
    fresh.write("four.yaml", {**EXPERIMENT, "tasks": [["ace"], ["jack"]]})
    default = fresh.planned("experiments=four.yaml")
    slurm = fresh.planned("experiments=four.yaml", options=["--workflow-profile", profile])
    assert slurm == default and "train_task 0/2" in default


@pytest.mark.slow
def test_snakemake_makes_its_own_report(fresh):
    fresh.write("plain.yaml", {**EXPERIMENT, "tasks": [["ace"], ["jack"]]})
    fresh.run("experiments=plain.yaml")
    done = fresh.snakemake("--report", "page.html", "--config", "experiments=plain.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (fresh.work / "page.html").read_text(encoding="utf-8")
    for caption in ("A stream of tasks", "The page to read first", "One row per experiment"):
        assert caption in page
    assert "results/report.html" in page and "results/summary.csv" in page
