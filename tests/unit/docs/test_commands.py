"""Every command of the documentation: run where that is cheap, else parsed and planned.

Whatever needs a training run is parsed by the very parser that would read it, and its experiments
are planned, which is what a dry run does before it lists jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.cli import get_argument_parser, parse_config

from clclip.classification.tools.advise import FEWEST
from clclip.cli.command import commands
from clclip.cli.main import main
from clclip.cli.parser import build_parser
from clclip.config.experiment import Experiment
from clclip.config.load import find_experiment, read_experiment
from clclip.config.names import is_name
from clclip.config.streams import StreamFile
from clclip.core.models import parse
from clclip.model.kinds import KINDS
from clclip.workflow.describe import describe
from clclip.workflow.plan import plan_run
from clclip.workflow.task_store import training_slice
from tests.helpers import docs
from tests.helpers.report import world

ROOT = Path(__file__).parents[3]
PAGES = docs.pages(ROOT)
TOOLS = ("pip", "uv", "pytest", "ruff", "snakefmt", "mkdocs", "mypy")  # their own tests are theirs


def by_name(page: Path) -> str:
    return page.name


@pytest.fixture(scope="module")
def rules() -> set[str]:
    texts = [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]
    return {name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def snakemake_parser():
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    assert "slurm" in ExecutorPluginRegistry().plugins  # its options are in the docs
    return get_argument_parser()


@pytest.fixture(scope="module")
def typed_in(tmp_path_factory) -> Path:
    """A folder in which the commands of your-data.md that make data and files were typed."""
    work = tmp_path_factory.mktemp("typed")
    page = ROOT / "docs/your-data.md"
    maker = next(words for words in docs.commands(page) if words[0] == "python")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / maker[1]), *maker[2:]]
    subprocess.run(command, cwd=work, env=environment, check=True)
    for name in ("your-data.md", "tutorial.md"):
        for file, text in docs.files_to_write(ROOT / "docs" / name).items():
            (work / file).write_text(text)
    return work


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_parse(page, rules, snakemake_parser):
    known = {*docs.files_to_write(page), "..."}
    known |= {f"{Path(w[2]).name}.yaml" for w in docs.commands(page) if w[:2] == ["clclip", "init"]}
    for words in docs.commands(page):
        if words[0] == "clclip":
            check_clclip(words[1:], known)
        elif words[0] == "snakemake":
            check_snakemake(words[1:], known, rules, snakemake_parser)
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), words
        else:
            assert words[0] in TOOLS, f"{page.name}: how is {words} tested?"
            for word in words[1:]:
                assert not word.endswith(".py") or (ROOT / word).is_file(), words


def test_advise_takes_the_classes_of_the_page(typed_in):
    tasks = yaml.safe_load((typed_in / "own_folder.yaml").read_text())["tasks"]
    for name in (name for task in tasks for name in task):
        assert len(list((typed_in / "own/folder/train" / name).iterdir())) >= FEWEST


def check_clclip(words, known):
    if len(words) == 1 and words[0] not in ("watch",):
        assert words[0] in (*commands(), "--help")  # named in running text, or all there is
        return
    options = build_parser().parse_args(words)
    for key in ("spec", "clip"):
        value = getattr(options, key, None)
        assert not isinstance(value, str) or isinstance(json.loads(value), dict), words
    if options.command == "describe" and not options.experiment.isupper():
        assert options.experiment in known or is_name(options.experiment), words


def check_snakemake(words, known, rules, parser):
    options = parser.parse_args(words)
    config = parse_config(options.config or [])
    for entry in filter(None, str(config.get("experiments", "")).split(",")):
        assert entry in known or is_name(entry) or (ROOT / entry).is_file(), words
    assert set(config) <= {"experiments", "seeds", "data_root", "wandb"}, words
    assert set(options.until or ()) <= rules and set(options.set_resources or {}) <= rules, words
    for file in options.configfile or ():
        assert (ROOT / file).is_file(), words
    if options.workflow_profile:
        assert (ROOT / options.workflow_profile / "config.yaml").is_file(), words


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_experiment_that_is_run_can_be_planned(page, typed_in, monkeypatch):
    monkeypatch.chdir(typed_in)
    entries = set()
    for words in docs.commands(page):
        for word in words:
            if word.startswith("experiments="):
                entries |= set(word.removeprefix("experiments=").split(","))
            if word.startswith("config/") and words[0] == "snakemake":
                assert plan_run(yaml.safe_load((ROOT / word).read_text()), [ROOT]).experiments
    for entry in entries - {"..."}:
        if is_name(entry) or (typed_in / entry).exists():
            assert describe(entry)["tasks"], entry


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_yaml_on_a_page_is_valid_config(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for file, text in docs.files_to_write(page).items():
        (tmp_path / file).write_text(text)
        # test_method.py adds fvit_lwf first; a model to start from, tests/unit/model has
        if "fvit_lwf" not in text and not re.search("^start:", text, re.MULTILINE):
            read_experiment(find_experiment(file))
    base = {"kind": "detection", "method": "clclip", "tasks": [["a"]]}
    for language, text in docs.blocks(page):
        if language == "yaml" and not text.startswith(("# ", "cff-version", "--8<--")):
            Experiment(**(base | yaml.safe_load(text)))


@pytest.mark.parametrize("method", list(KINDS["detection"].methods))
def test_the_template_of_a_stream_of_photographs_fits_every_method(method):
    values = yaml.safe_load((ROOT / "docs/examples/photographs.yaml").read_text())
    stream = parse(StreamFile, values, "photographs.yaml")
    assert all(sum(sizes) == len(stream.classes) for sizes in stream.streams.values())
    found = Experiment(method=method, tasks=[stream.classes], text=stream.text, **stream.shared)
    assert found.training["image_size"] == 320 and found.switches["proposals_test"] == 120


def test_describe_runs_as_typed(typed_in, monkeypatch, capsys):
    """All commands of the docs that only describe, with the files that the docs make."""
    monkeypatch.chdir(typed_in)
    ran = 0
    for page in PAGES:
        for words in docs.commands(page):
            typed = words[:2] == ["clclip", "describe"] and len(words) > 2
            if typed and (is_name(words[2]) or (typed_in / words[2]).exists()):
                assert main(words[1:]) == 0, words
                said = "kind: " if "--yaml" in words else "task 1: "
                assert said in capsys.readouterr().out
                ran += 1
    assert ran >= 8


def test_your_data_reads_alike_in_all_layouts(typed_in, monkeypatch):
    """The four layouts of the page hold the same objects."""
    monkeypatch.chdir(typed_in)
    kinds = ("coco", "voc", "yolo", "folder")
    coco, voc, yolo, folder = (describe(f"own_{kind}.yaml") for kind in kinds)
    assert coco["data"]["images"] == voc["data"]["images"] == {"train": 60, "test": 40}
    assert coco["data"]["images"] == yolo["data"]["images"]
    truth = json.loads((typed_in / "own/coco/train.json").read_text())
    assert folder["data"]["images"]["train"] == len(truth["annotations"])
    assert [t["classes"] for t in coco["tasks"]] == [t["classes"] for t in folder["tasks"]]


def test_voc_and_yolo_boxes_of_the_example_are_those_of_coco(typed_in, monkeypatch):
    monkeypatch.chdir(typed_in)
    for split in ("coco", "voc", "yolo"):
        plan = plan_run({"experiments": [f"own_{split}.yaml"]}, [typed_in])
        spec = next(iter(plan.data.values()))
        out = typed_in / "indexed" / split
        assert main(["prepare", "--spec", json.dumps(spec), "--out", str(out)]) == 0
    boxes = {}
    for split in ("coco", "voc", "yolo"):
        found = json.loads((typed_in / "indexed" / split / "test.json").read_text())
        names = {c["id"]: c["name"] for c in found["categories"]}
        stems = {i["id"]: Path(i["file_name"]).stem for i in found["images"]}
        boxes[split] = sorted(
            (stems[a["image_id"]], names[a["category_id"]], [round(v) for v in a["bbox"]])
            for a in found["annotations"]
        )
    assert boxes["coco"] == boxes["voc"] == boxes["yolo"]


def test_tutorial_says_truly_what_reruns(typed_in, monkeypatch):
    """Task 1 of the tutorial's file is the shipped one's; a change of task 2 leaves it alone."""
    monkeypatch.chdir(typed_in)
    shipped, mine = planned("shapes_10_10_clclip"), planned("mine.yaml")
    assert training_slice(mine[1]) == training_slice(shipped[1]) and mine[1] == shipped[1]
    assert mine[2]["training"]["lr"] != shipped[2]["training"]["lr"]
    before = (typed_in / "mine.yaml").read_text()
    edited = before.replace("lr: 5e-4", "lr: 2e-4")
    assert edited != before
    with contextlib.ExitStack() as stack:
        stack.callback((typed_in / "mine.yaml").write_text, before)
        (typed_in / "mine.yaml").write_text(edited)
        assert planned("mine.yaml")[1] == mine[1] and planned("mine.yaml")[2] != mine[2]
        (typed_in / "mine.yaml").write_text("# a comment\n" + before)
        assert planned("mine.yaml") == mine


def planned(entry):
    plan = plan_run({"experiments": [entry]}, [Path.cwd()])
    experiment = next(iter(plan.experiments.values()))
    return {number: json.loads(task.json) for (_, number), task in experiment.tasks.items()}


def test_snakemake_accepts_the_files_of_the_docs(typed_in):
    """One real dry run with every file that the docs tell to write."""
    entries = "own_coco.yaml,own_voc.yaml,own_folder.yaml,mine.yaml,smoke_fvit"
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-n"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [
            *command,
            "--cores",
            "1",
            "--directory",
            str(typed_in),
            "--config",
            f"experiments={entries}",
        ],
        cwd=typed_in,
        env=environment | {"PWD": str(typed_in)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counted = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE))
    assert counted["train_task"] == "10" and counted["aggregate"] == "5"


def test_python_of_the_docs_runs_on_results(monkeypatch, tmp_path, capsys):
    truth = world.draw_images(tmp_path, ["disc", "box", "star"], 8)
    for method in ("fvit", "clclip"):
        groups = [["disc", "box"], ["star"]]
        world.run(tmp_path, f"shapes_10_10_{method}", method, groups, truth)
    steps = tmp_path / "results/shapes_10_10_clclip/seed0/task2/history.csv"
    steps.write_text("step,loss,lr\n1,0.5,0.001\n")
    monkeypatch.chdir(tmp_path)
    found = docs.blocks(ROOT / "docs/python.md")
    [code] = [text for language, text in found if language == "python"]
    exec(compile(code, "docs/python.md", "exec"), {})
    said = capsys.readouterr().out
    assert "shapes_10_10_clclip" in said and "boxes on the test images" in said and "disc" in said
