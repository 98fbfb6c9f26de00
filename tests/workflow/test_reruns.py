"""Each edit reruns exactly what it must: the whole set of jobs of a dry run is compared."""

import copy
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.helpers.workflow.project import EXPERIMENT, copy_project, make_cards

MINE = "experiments=cards_3.yaml"
SUMMARIES = {"aggregate_seed 0", "aggregate", "report"}


def stages(*tasks: int, first: str = "resolve", seed: int = 0) -> set[str]:
    """Return the jobs of tasks from the stage ``first`` on."""
    order = ["resolve", "split", "train", "predict", "score"]
    unseen = {f"measure_unseen {seed}"} if first != "score" else set()
    return {f"{s}_task {seed}/{t}" for s in order[order.index(first) :] for t in tasks} | unseen


@pytest.fixture
def edited(project):
    """Return a function that writes the experiment with changes, and restores it afterwards."""

    def write(**changes):
        values = copy.deepcopy(EXPERIMENT)
        values.update(changes)
        return project.write("cards_3.yaml", values)

    yield write
    project.write("cards_3.yaml", EXPERIMENT)


@pytest.fixture
def restored(project):
    """Return a function that lets a file of the project be edited, and restores it afterwards."""
    saved: dict[Path, bytes] = {}

    def edit(name: str, old: str, new: str) -> None:
        path = project.home / name
        saved.setdefault(path, path.read_bytes())
        text = path.read_text()
        assert old in text, f"{name} lacks {old!r}"
        path.write_text(text.replace(old, new, 1))

    yield edit
    for path, content in saved.items():
        path.write_bytes(content)


def test_what_a_job_cost_is_no_reason_to_do_it_again(project):
    """A benchmark file may be missing (results of an earlier commit), or older or newer."""
    costs = [*project.work.rglob("*.tsv")]
    assert {path.name for path in costs} >= {"train.tsv", "predict.tsv", "prepare.tsv"}
    for path in costs:
        path.unlink()
    assert project.planned(MINE) == set()
    for path in costs[::2]:
        path.write_text("s\n1\n")
    assert project.planned(MINE) == set()


def test_finished_run_has_nothing_to_do(project):
    done = project.snakemake("--cores", "2", "--config", MINE)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_plot_style_reruns_the_report_only(project):
    config = project.write("style.yaml", {"report": {"dpi": 200, "title": "another"}})
    assert project.planned(MINE, options=["--configfile", str(config)]) == {"report"}


def test_learning_rate_of_task_3(project, edited):
    edited(per_task={3: {"training": {"lr": 0.005}}})
    assert project.planned(MINE) == stages(3) | SUMMARIES


def test_learning_rate_of_task_2_reruns_later_tasks_from_training_on(project, edited):
    edited(per_task={2: {"training": {"lr": 0.005}}})
    assert project.planned(MINE) == stages(2) | stages(3, first="train") | SUMMARIES


def test_classes_of_a_middle_task(project, edited):
    edited(tasks=[["ace", "jack"], ["queen"], ["nine"]])
    assert project.planned(MINE) == stages(2, 3) | SUMMARIES | {"embed_text"}


def test_appended_task_runs_alone(project, edited):
    edited(tasks=[*EXPERIMENT["tasks"], ["ten"]])
    assert project.planned(MINE) == stages(4) | SUMMARIES | {"embed_text"}


def test_new_seed_runs_alone(project):
    expected = stages(1, 2, 3, seed=1) | {"aggregate_seed 1", "aggregate", "report"}
    assert project.planned(MINE, "seeds=0,1") == expected


def test_new_method_runs_alone(project):
    project.write("cards_fvit.yaml", {**EXPERIMENT, "method": "fvit"})
    assert (
        project.planned("experiments=cards_3.yaml,cards_fvit.yaml") == stages(1, 2, 3) | SUMMARIES
    )


def test_key_order_and_equal_numbers_change_nothing(project):
    text = yaml.safe_dump(dict(reversed(EXPERIMENT.items())), sort_keys=False)
    text = text.replace("lr: 0.01", "lr: 1e-2").replace("weight_decay: 0.1", "weight_decay: 0.10")
    assert "1e-2" in text and "0.10" in text
    project.write("cards_3.yaml", text)
    try:
        assert project.planned(MINE) == set()
    finally:
        project.write("cards_3.yaml", EXPERIMENT)


def test_swapped_values_are_noticed(project, edited):
    edited(training={"epochs": 1, "lr": 0.1, "weight_decay": 0.01})
    assert project.planned(MINE) == stages(1, 2, 3) | SUMMARIES


def test_threads_memory_and_retries_change_nothing(project):
    options = [
        "--set-threads",
        "train_task=2",
        "--set-resources",
        "train_task:mem_mb=99",
        "--retries=3",
    ]
    assert project.planned(MINE, options=options) == set()


def test_devices_and_nodes_change_nothing(project, edited):
    edited(training={**EXPERIMENT["training"], "devices": 2, "nodes": 2})
    assert project.planned(MINE) == set()


def test_touched_and_recopied_data_change_nothing(project, tmp_path):
    cards = project.work / "cards"
    for path in cards.rglob("*.*"):
        os.utime(path)
    assert project.planned(MINE) == set()
    shutil.copytree(cards, tmp_path / "cards")
    shutil.rmtree(cards)
    shutil.copytree(tmp_path / "cards", cards, copy_function=shutil.copyfile)
    assert project.planned(MINE) == set()


def test_one_edited_label_reruns_the_chain_of_its_data(project):
    path = project.work / "cards" / "train.json"
    before = path.read_text()
    content = json.loads(before)
    content["annotations"][0]["bbox"][2] += 1
    path.write_text(json.dumps(content))
    try:
        stores = {"prepare_data", "extract_features train", "extract_features test"}
        assert project.planned(MINE) == stages(1, 2, 3) | SUMMARIES | stores
    finally:
        path.write_text(before)


def test_moved_data_reruns_nothing(project, tmp_path):
    make_cards(tmp_path / "cards")
    assert project.planned(MINE, f"data_root={tmp_path}") == set()


@pytest.mark.slow
def test_moved_data_hides_none_of_the_jobs_that_are_missing(root, tmp_path):
    project = copy_project(root, tmp_path / "project")
    here, there = tmp_path / "here", tmp_path / "it's over there"
    there.mkdir()
    make_cards(here / "cards")
    weights = root / "clclip/clip/embedded/weights/embedded.safetensors"
    shutil.copy(weights, here / "clip.safetensors")

    def write(place: Path) -> None:
        clip = {"model": "embedded", "file": str(place / "clip.safetensors")}  # it moves along
        project.write("cards_3.yaml", {**EXPERIMENT, "clip": clip})

    write(here)
    options = ["--until", "split_task", "fetch_clip"]
    project.run(MINE, f"data_root={here}", options=options)
    (index,) = (project.work / "resources/data").glob("*/index.json")
    assert json.loads(index.read_text())["root"] == str(here / "cards")  # the stub writes its spec
    os.utime(index, (time := 1_700_000_000, time))
    for name in ("cards", "clip.safetensors"):
        (here / name).rename(there / name)
    write(there)
    rest = stages(1, 2, 3, first="train") | SUMMARIES | {"embed_text"}
    rest |= {"extract_features train", "extract_features test"}
    assert project.planned(MINE, f"data_root={there}") == rest
    assert json.loads(index.read_text())["root"] == str(here / "cards")  # a dry run writes nothing
    project.run(MINE, f"data_root={there}")
    assert json.loads(index.read_text())["root"] == str(there / "cards/images")
    assert index.stat().st_mtime == time and (project.work / "results/report.html").exists()


def test_docstring_and_comment_of_a_training_module_change_nothing(project, restored):
    restored("clclip/detection/stages/train.py", '"""', '"""Another text. ')
    restored("clclip/detection/stages/train.py", "def train(", "# a comment\ndef train(")
    assert project.planned(MINE) == set()


def test_statement_of_a_training_module(project, restored):
    restored(
        "clclip/training/fit.py",
        "\ndef learning_rate_factor(",
        "\nANOTHER = 1\n\n\ndef learning_rate_factor(",
    )
    assert project.planned(MINE) == stages(1, 2, 3, first="train") | SUMMARIES


def test_statement_of_the_scoring_module(project, restored):
    restored("clclip/evaluation/ap.py", "\nMETRIC_NAMES", "\nANOTHER = 1\nMETRIC_NAMES")
    scored = stages(1, 2, 3, first="score") | SUMMARIES
    assert project.planned(MINE) == scored | {"measure_unseen 0"}  # it takes APs too


def test_statement_of_the_report(project, restored):
    restored("clclip/report/sections/table.py", "\nfrom clclip", "\nANOTHER = 1\nfrom clclip")
    assert project.planned(MINE) == {"report"}


def test_statement_of_the_aggregation(project, restored):
    restored("clclip/evaluation/continual.py", "\ndef ", "\nANOTHER = 1\n\n\ndef ")
    restored("clclip/report/page.py", '"""', '"""Another text. ')
    assert project.planned(MINE) >= SUMMARIES
    assert not {job for job in project.planned(MINE) if "train" in job or "predict" in job}


def test_what_decides_no_result_changes_nothing(project, restored):
    """A comment, another line end, a base, code's layout, a logger, resources: all at once."""
    project.write("common.yaml", {k: v for k, v in EXPERIMENT.items() if k != "tasks"})
    text = yaml.safe_dump({"base": "common.yaml", "tasks": EXPERIMENT["tasks"]})
    project.write("cards_3.yaml", ("# a comment\n" + text).replace("\n", "\r\n"))
    restored("clclip/evaluation/ap.py", "\nMETRIC_NAMES", "\n# a comment\n\n\nMETRIC_NAMES")
    options = ["--default-resources", "mem_mb=5", "slurm_account=x", "--resources", "gpu=4"]
    try:
        assert project.planned(MINE, "wandb=offline", options=options) == set()
    finally:
        project.write("cards_3.yaml", EXPERIMENT)


def test_removed_last_task_runs_summaries_only(project, edited):
    edited(tasks=EXPERIMENT["tasks"][:2])
    assert project.planned(MINE) == SUMMARIES | {"measure_unseen 0"}


def test_class_moved_to_the_next_task(project, edited):
    edited(tasks=[["ace"], ["jack", "king"], ["nine"]])
    assert project.planned(MINE) == stages(1, 2, 3) | SUMMARIES | {"embed_text"}


def test_text_of_a_class_of_the_last_task(project, edited):
    edited(text={"nine": "a nine"})
    assert project.planned(MINE) == stages(3) | SUMMARIES | {"embed_text"}


def test_image_rule_and_dense_mode(project, edited):
    edited(data={**EXPERIMENT["data"], "image_rule": "disjoint"}, switches={"dense": "maskclip"})
    stores = {"extract_features train", "extract_features test"}
    assert project.planned(MINE) == stages(1, 2, 3) | SUMMARIES | stores


def test_space_in_a_shell_line_changes_nothing(project, restored):
    restored("workflow/rules/tasks.smk", '"clclip train ', '"clclip  train ')
    assert project.planned(MINE) == set()
