"""Each sub-command hands its stage the paths and plain values it asks for; host facts for jobs."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from clclip.cli import measure
from clclip.cli.main import main
from clclip.clip import probe
from clclip.clip.own.settle import clip_id
from clclip.config.run import ReportStyle
from clclip.core.files import check_writable
from clclip.data import own_images
from clclip.data.checks import unnamed
from clclip.model import place
from clclip.workflow import host

P = Path
IMAGES = {"task": None, "resources": None, "recursive": False, "on_bad_image": "fail"}
CALLS = [
    (
        'prepare --spec {"id":"x"} --out d',
        "clclip.data.prepare:prepare",
        (({"id": "x"}, P("d"), None), {}),
    ),
    (
        'fetch-clip --clip {"model":"embedded"} --out c',
        "clclip.clip.fetch:fetch_clip",
        (({"model": "embedded", "id": clip_id(None)}, P("c")), {}),
    ),
    (
        "pretrain-clip --seed 3 --steps 7 --out o",
        "clclip.clip.embedded.pretrain:pretrain_clip",
        ((P("o"),), {"seed": 3, "name": "embedded", "steps": 7}),
    ),
    (
        'embed-text --clip c --names ["ace"] --out t',
        "clclip.clip.text:embed_text",
        ((P("c"), ["ace"], P("t")), {}),
    ),
    (
        "features --data d --clip c --split test --size 128 --dense tokens --taps 1,2 --flip"
        " --out o",
        "clclip.clip.features:build_features",
        (
            (P("d"), P("c"), "test", P("o")),
            {"size": 128, "dense": "tokens", "taps": [1, 2], "flip": True},
        ),
    ),
    (
        "split --task t.json --resources r",
        "clclip.data.split:split_task",
        ((P("t.json"), P("r")), {}),
    ),
    ("score --task t.json", "clclip.evaluation.score:score", ((P("t.json"),), {})),
    (
        "aggregate --summaries a b --out o",
        "clclip.evaluation.aggregate:aggregate_experiment",
        (([P("a"), P("b")], P("o")), {}),
    ),
    (
        "aggregate --tasks a b --experiment e --dataset d --protocol p --out o",
        "clclip.evaluation.aggregate:aggregate_seed",
        (([P("a"), P("b")], P("o"), "e", "d", "p"), {}),
    ),
    (
        'report --summaries a --style {"dpi":90} --out o',
        "clclip.report.page:report",
        (([P("a")], P("o"), ReportStyle(dpi=90).model_dump()), {}),
    ),
    (
        "detect --run r a.png b --task 2 --classes ace,ten --classes x --threshold 0.5 --out o",
        "clclip.model.use.detect:detect",
        (
            (P("r"), [P("a.png"), P("b")], P("o")),
            IMAGES
            | {
                "task": 2,
                "classes": ["ace,ten", "x"],
                "threshold": 0.5,
                "crops": False,
                "also": [],
                "formats": [],
                "every": None,
            },
        ),
    ),
    (
        "detect --model m a --recursive --batch 4 --on-bad-image skip --crops --out o --also x,y "
        "--format voc,coco --every 3",
        "clclip.model.use.detect:detect",
        (
            (P("m"), [P("a")], P("o")),
            IMAGES
            | {"classes": None, "threshold": None, "crops": True, "batch": 4}
            | {"recursive": True, "on_bad_image": "skip"}
            | {"also": ["x,y"], "formats": ["voc"], "every": 3},
        ),
    ),
    (
        "classify --run r a.png --top-k 3 --resources s --out o",
        "clclip.model.use.classify:classify",
        ((P("r"), [P("a.png")], P("o")), IMAGES | {"top": 3, "resources": P("s")}),
    ),
    (
        "export --run r --out o --with-tower",
        "clclip.model.export:export",
        (
            (P("r"), P("o"), None),
            {"with_tower": True, "with_memory": False, "onnx": False, "resources": None},
        ),
    ),
    (
        "take-over --model m --digest d --out o",
        "clclip.model.change.start:take_over",
        ((P("m"), P("o"), "d"), {}),
    ),
]


@pytest.mark.parametrize(("line", "target", "expected"), CALLS)
def test_options_reach_the_stage(line, target, expected, monkeypatch):
    module, name = target.split(":")
    calls = []
    stub = SimpleNamespace(aggregate_seed=None, aggregate_experiment=None)
    made = {"classes": [], "parts": []}  # what export returns
    setattr(stub, name, lambda *args, **named: calls.append((args, named)) or made)
    monkeypatch.setitem(sys.modules, module, stub)
    monkeypatch.setattr(place, "check_place", lambda *_: None)  # no such model and no images
    monkeypatch.setattr(own_images, "find_images", lambda *_: [])
    monkeypatch.setattr(unnamed, "check_task", lambda *_: None)
    assert main(line.split()) == 0
    assert calls == [expected]


@pytest.mark.parametrize("command", ["probe-dense", "zero-shot"])
def test_probes_print_and_write_their_result(command, monkeypatch, capsys, tmp_path):
    name = command.replace("-", "_")
    stub = SimpleNamespace(**{name: lambda data, clip, images: {"accuracy": 80.0, "n": images}})
    monkeypatch.setitem(sys.modules, "clclip.clip.probe", stub)
    monkeypatch.setattr(measure, "_check_given", lambda *_: None)  # no such folders
    out = tmp_path / "probe.json"
    options = ["--data", "d", "--clip", "c", "--images", "5", "--out", str(out)]
    assert main([command, *options]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
    assert json.loads(out.read_text()) == {"accuracy": 80.0, "n": 5}


@pytest.mark.parametrize("command", ["probe-dense", "zero-shot"])
@pytest.mark.parametrize("images", ["0", "-1"])
def test_probes_measure_at_least_one_image(command, images, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([command, "--images", images]) == 2
    assert f"error: got {images}, in --images, expected a number from 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # neither a CLIP nor data were made


@pytest.mark.parametrize(
    "command", ["probe-dense", "zero-shot", "open-vocabulary", "feature-drift"]
)
@pytest.mark.parametrize("out", ["file/x.json", "file/deep/x.json", "folder"])
def test_a_result_that_cannot_be_written_is_refused_before_the_work(
    command, out, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    runs = command in ("open-vocabulary", "feature-drift")
    assert main([command, *(["results/none/seed0"] if runs else []), "--out", out]) == 2
    said = capsys.readouterr()
    assert (
        said.out == "" and "error: cannot be written (" in said.err and f", in {out}, " in said.err
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_place_that_is_still_missing_can_be_written(tmp_path):
    check_writable(tmp_path / "a/b/c.json")
    (tmp_path / "old.json").write_text("old")
    check_writable(tmp_path / "old.json")
    assert [(p.name, p.read_text()) for p in tmp_path.rglob("*")] == [("old.json", "old")]


@pytest.mark.parametrize("command", ["probe-dense", "zero-shot"])
def test_help_of_the_probes_tells_their_default(command, capsys):
    default = inspect.signature(getattr(probe, command.replace("-", "_"))).parameters["images"]
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = re.search(r"\(default: (\w+)\)", " ".join(capsys.readouterr().out.split()))[1]
    assert told == ("all" if default.default is None else str(default.default))


def test_shell_prefix_survives_snakemakes_formatting_and_any_path(monkeypatch, tmp_path):
    odd = tmp_path / "a b{c}'d"
    odd.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\n")
    odd.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(odd))
    command = host.shell_prefix(conda=False).format() + "clclip train --task 'x y'"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "-m|clclip|train|--task|x y|"
    assert "{ python -m" in host.shell_prefix(conda=True).format()


def test_environment_of_jobs(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", "/before")
    monkeypatch.setenv("CLCLIP_WANDB", "off")
    checkout = str(host.PACKAGE.parent)
    for _ in range(2):  # a job's Snakemake prepares once more
        host.prepare_environment(conda=False)
    host.announce_logger("offline")
    assert os.environ["PYTHONPATH"] == f"{checkout}:/before"
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
    assert os.environ["CLCLIP_WANDB"] == "offline"


def test_jobs_find_an_installed_package_and_none_of_its_neighbours(monkeypatch, tmp_path):
    """Of a wheel: nothing is added for its own Python, a lone link for another environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/before")
    monkeypatch.setattr(host, "project_folder", lambda: host.PACKAGE / "shipped")
    host.prepare_environment(conda=False)
    assert os.environ["PYTHONPATH"] == "/before" and not list(tmp_path.iterdir())
    for _ in range(2):
        host.prepare_environment(conda=True)
    folder = P(os.environ["PYTHONPATH"].split(":")[0])
    assert folder.is_relative_to(tmp_path) and os.listdir(folder) == ["clclip"]
    assert (folder / "clclip" / "__init__.py").samefile(host.PACKAGE / "__init__.py")


def test_relative_paths_start_in_the_working_directory_then_where_it_was_typed(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", "/typed")
    assert host.invoking_folders() == [tmp_path, P("/typed"), host.project_folder()]


def test_ending_shows_what_is_there(tmp_path):
    assert host.ending(tmp_path) == ""
    (tmp_path / "table.txt").write_text("table\n")
    (tmp_path / "report.html").write_text("x")
    assert host.ending(tmp_path) == f"\ntable\n\nreport: {tmp_path / 'report.html'}\n"


def test_ending_says_what_to_do_next(tmp_path, monkeypatch):
    results = tmp_path / "results"
    results.mkdir()
    (results / "report.html").write_text("x")
    head = "experiment,kind,method,dataset,seeds,A\n"
    rows = "ours,detection,clclip,zoo,3,80\nold,detection,fvit,zoo,3,50\n"
    rows += "up,detection,joint,zoo,3,90\n"
    (results / "summary.csv").write_text(head + rows + "cil,classification,seca,birds,3,60\n")
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.delenv("UV", raising=False)
    lines = host.ending(results).splitlines()
    assert lines[-4] == "next:" and len({line.index("#") for line in lines[-3:]}) == 1
    commands = [line.split("#")[0].strip() for line in lines[-3:]]
    assert commands[0] == "clclip compare results/ours results/old"
    assert commands[1] == "clclip detect --run results/ours/seed3 IMAGE... --out boxes"
    assert "seeds=0,1,2" in commands[2]
    rules = "overlap\n", "disjoint\n", "overlap\n", "overlap\n"
    lines = (head + rows).splitlines()
    other = "".join(f"{line},{rule}" for line, rule in zip(lines[1:], rules, strict=False))
    (results / "summary.csv").write_text(f"{lines[0]},image_rule\n{other}")
    assert not any("compare" in step for step in host.next_steps(results))  # it would refuse
    monkeypatch.setenv("UV", "/bin/uv")
    monkeypatch.setenv("PWD", "/elsewhere")
    (results / "summary.csv").write_text(head + "cil,classification,seca,birds,3 4,60\n")
    (step,) = host.next_steps(results)
    assert step.startswith(f"uv run clclip classify --run {results}/cil/seed3 IMAGE... --out")
    for broken in ("", "experiment\nx\n", head):
        (results / "summary.csv").write_text(broken)
        assert host.next_steps(results) == []
