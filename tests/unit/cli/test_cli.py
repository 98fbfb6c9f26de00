"""The command line: help, exit status, one line per error, the log."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from clclip.cli import command
from clclip.cli.command import commands
from clclip.cli.main import main
from clclip.cli.parser import build_parser
from clclip.config.load import find_experiment, read_experiment
from clclip.workflow.plan import RunPlan, add_experiment


@pytest.fixture
def task_json():
    """A valid task as JSON text."""
    path = find_experiment("smoke_fvit")
    experiment, folder = read_experiment(path)
    return add_experiment(RunPlan(), experiment, [0], folder, path).tasks[0, 2].json


def replaced(name, run):
    """Return ``setitem``'s arguments that let a command call ``run``."""
    return commands(), name, dataclasses.replace(commands()[name], run=run)


def test_every_module_of_a_group_is_a_command_and_every_folder_a_group():
    folders = {path.parent.name for path in Path(command.__file__).parent.glob("*/__init__.py")}
    assert folders == set(command.GROUPS)
    assert {"train", "describe", "fetch-clip", "detect", "cache", "compare"} < set(commands())
    for found in commands().values():
        assert isinstance(found, command.Command) and found.help[-1] != "."


@pytest.mark.parametrize("name", list(commands()))
def test_help_shows_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"example: clclip {name}" in capsys.readouterr().out
    words = shlex.split(commands()[name].example.split(" > ")[0])
    assert build_parser().parse_args([name, *words]).command == name


def test_help_lists_every_command_in_its_group(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    places = [said.index(f"\n{title}:\n") for title in command.GROUPS.values()]
    assert places == sorted(places)
    for name, found in commands().items():
        assert re.search(rf"^  {name} +{re.escape(found.help)}$", said, re.MULTILINE)


def test_help_imports_nothing_heavy():
    """What it costs in seconds is measured in benchmarks/startup.py."""
    code = "import sys; from clclip.cli.main import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(*sorted({'torch', 'numpy', 'pydantic', 'yaml'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == ""


NOWHERE = """
classify --run nowhere photo.png --out x.json
classify --model nowhere nowhere.png --out x.json
detect --run nowhere photo.png --out x
detect --model nowhere photo.png --out x
verify nowhere nowhere photo.png
label --model nowhere --data d.json --out x.json
calibrate --run nowhere --data d.json
merge nowhere nowhere --out x
feature-drift nowhere
open-vocabulary nowhere
probe-dense --clip nowhere
zero-shot --data nowhere
advise data --clip nowhere
"""


def test_what_is_not_there_is_told_before_torch_is_imported(tmp_path):
    """Importing it takes seconds, and on a busy machine a minute in which nothing is told."""
    lines = [line.split() for line in NOWHERE.split("\n") if line]
    code = (
        f"import sys; from clclip.cli.main import main\nstatus = [main(line) for line in {lines}]\n"
    )
    code += "print(status, *({'torch', 'open_clip'} & set(sys.modules)))"
    for name in ("data/a", "data/b"):
        (tmp_path / name).mkdir(parents=True)
        for k in range(5):
            (tmp_path / name / f"{k}.png").touch()
    (tmp_path / "photo.png").touch()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == f"{[2] * len(lines)}\n", done.stderr
    told = done.stderr.splitlines()
    assert len(told) == len(lines) and all(line.startswith("error: no ") for line in told), told
    assert all("nowhere" in line for line in told), told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "photo.png"]


def test_resolve_writes_the_canonical_plan(task_json, tmp_path):
    spaced = json.dumps(json.loads(task_json), indent=2)
    out, log = tmp_path / "a" / "task.json", tmp_path / "logs" / "resolve.log"
    assert main(["resolve", "--json", spaced, "--out", str(out), "--log", str(log)]) == 0
    assert out.read_text() == task_json + "\n"
    last = log.read_text().splitlines()[-1]
    assert re.search(r"done stage=resolve seconds=\d+\.\d peak_mib=\d+$", last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resolve", "--json", "{", "--out", "x"], "not JSON"),
        (["resolve", "--json", "[]", "--out", "x"], "a JSON dict"),
        (["resolve", "--json", "{}", "--out", "x"], "missing key"),
        (["score", "--task", "no/task.json"], "no such file"),
        (["train", "--task", "no/task.json"], "no such file"),
        (["describe", "shapes_10_10_clclpi"], "did you mean 'shapes_10_10_clclip'"),
        (["describe", "shapes_10_10_clclip", "--seeds", "one"], "--seeds"),
        (["aggregate", "--out", "x"], "got both or neither"),
        (["report", "--summaries", "x", "--style", "1", "--out", "y"], "a JSON dict"),
        (
            "features --data d --clip c --split train --size 8 --dense x --taps a --out o".split(),
            "--taps",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0] and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_unknown_command_or_option_is_status_2():
    for arguments in (["trian"], ["train"], ["score", "--tusk", "x"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2


def test_fault_of_the_program_is_status_1_and_its_trace_is_in_the_log(
    monkeypatch, capsys, tmp_path
):
    def broken(options):
        raise KeyError("surprise")

    monkeypatch.setitem(*replaced("score", broken))
    log = tmp_path / "score.log"
    assert main(["score", "--task", "t", "--log", str(log)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: KeyError: 'surprise'") and "Traceback" not in error
    assert "Traceback" in log.read_text()
    assert main(["score", "--task", "t", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_retry_does_not_repeat_bad_input(monkeypatch, capsys, tmp_path):
    log = tmp_path / "train.log"
    task = tmp_path / "task.json"
    task.write_text("[]")
    arguments = ["train", "--task", str(task), "--log", str(log)]
    assert main(arguments) == 2
    first = capsys.readouterr().err
    monkeypatch.setitem(*replaced("train", lambda options: pytest.fail("ran again")))
    assert main([*arguments, "--attempt", "2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == first.splitlines()[-1]
    monkeypatch.setitem(*replaced("train", lambda options: None))
    assert main([*arguments, "--attempt", "1"]) == 0
    assert main([*arguments, "--attempt", "2"]) == 0  # the log tells of no bad input now


def test_log_that_cannot_be_written(tmp_path, capsys):
    assert main(["schema", "--log", str(tmp_path)]) == 2
    assert "--log" in capsys.readouterr().err


def test_describe_tells_tasks_data_and_clip(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["describe", "shapes_10_5_5_clclip", "--json", "--seeds", "0,1"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert [len(task["classes"]) for task in described["tasks"]] == [10, 5, 5]
    assert (
        described["seeds"] == [0, 1] and described["data"]["there"] and described["clip"]["there"]
    )
    assert described["estimate"]["minutes"] > 0
    assert main(["describe", "voc_15_5_fvit"]) == 0
    text = capsys.readouterr().out
    assert "MISSING" in text and str(tmp_path / "VOCdevkit") in text and "15 classes" in text
    assert list(tmp_path.iterdir()) == []


def test_describe_counts_the_images_of_a_users_data(capsys, tmp_path):
    (tmp_path / "images").mkdir()
    from PIL import Image

    for split in ("train", "test"):
        images = [
            {"id": k, "file_name": f"{split}{k}.png", "width": 8, "height": 8} for k in (1, 2)
        ]
        for image in images:
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / image["file_name"])
        boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16}]
        names = [{"id": 1, "name": "ace"}, {"id": 2, "name": "ten"}]
        content = {"images": images, "annotations": boxes, "categories": names}
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    text = "kind: detection\nmethod: clclip\ntasks: [[ace]]\n"
    text += "data: {format: coco, root: ., images: images, train: train.json, test: test.json}\n"
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["describe", str(tmp_path / "mine.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["images"] == 1
    (tmp_path / "images" / "test2.png").unlink()
    assert main(["describe", str(tmp_path / "mine.yaml")]) == 2
    assert "1 of 2 test images are missing, e.g. 'test2.png'" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "test2.png")
    (tmp_path / "mine.yaml").write_text(text.replace("[[ace]]", "[[ace], [ten]]"))
    assert main(["describe", str(tmp_path / "mine.yaml")]) == 2
    assert "no training image for task 2 ('ten')" in capsys.readouterr().err


def test_schema_is_printed(capsys):
    assert main(["schema"]) == 0
    assert "Experiment" in json.loads(capsys.readouterr().out)["$defs"]


def test_describe_says_whether_features_are_kept(capsys):
    for name, cached, why in (
        ("shapes_10_10_clclip", True, None),
        ("voc_10_10_clclip", False, "lsj"),
        ("shapes_cil_hpeft", None, None),
    ):
        assert main(["describe", name, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["features"]
        assert found is None if cached is None else found["cached"] is cached
        assert why is None or why in found["why_not"]
    assert main(["describe", "voc_10_10_clclip"]) == 0
    assert "not kept but computed in every pass" in capsys.readouterr().out


def test_an_empty_path_is_a_variable_that_was_not_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["detect", "--run", "results/x/seed0", "--out", "", "image.png"])
    assert ended.value.code == 2 and "empty path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("words", [["describe", "smoke_fvit"], ["list"]], ids=["short", "long"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_standard_output_that_cannot_be_written_is_named(words, unbuffered, tmp_path):
    with open("/dev/full", "w") as full:
        made = subprocess.run(
            [sys.executable, "-m", "clclip", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    (line,) = made.stderr.splitlines()
    assert made.returncode == 2 and "No space left on device" in line
    assert (
        line.startswith("error: ") and "in standard output," in line and str(tmp_path) not in line
    )
