"""docs/add-a-method.md, followed word by word: the file, the entry, a run of two tasks."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clclip.detection.registry import METHODS
from clclip.model.kinds import KINDS
from clclip.workflow.fingerprint import stage_fingerprint
from tests.helpers import docs
from tests.helpers.bad_input.world import DETECTION

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/add-a-method.md"
RUN = """
import json, sys
from pathlib import Path
from tests.helpers.bad_input import world
from clclip.cli.main import main
from clclip.workflow.fingerprint import stage_fingerprint
from clclip.workflow.plan import plan_run
work = Path.cwd()
world.plan_of = lambda work: plan_run({"experiments": ["lwf.yaml"]}, [work])
assert main(["describe", "lwf.yaml"]) == 0
world.run_all(work)
told = {m: stage_fingerprint("train", "detection", m) for m in json.loads(sys.argv[1])}
from reference import config_page
told["page"] = "`fvit_lwf`" in config_page()
(work / "told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Path:
    """Return a copy of the project in which the page's file and line were written."""
    home = tmp_path_factory.mktemp("project")
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("clclip", "config"):
        shutil.copytree(ROOT / name, home / name, ignore=skip)
    others = {m: stage_fingerprint("train", "detection", m) for m in METHODS}
    (home / "fingerprints.json").write_text(json.dumps(others))  # of what was copied just now
    text = PAGE.read_text(encoding="utf-8")
    place = re.search(r"Write `(clclip/detection/methods/\w+\.py)`", text).group(1)
    code, line = [t for language, t in docs.blocks(PAGE) if language == "python"][:2]
    (home / place).write_text(code)
    table = home / re.search(r"In `([\w/]+\.py)`, in the table `METHODS`", text).group(1)
    before = table.read_text()
    options = re.search(r"(\w+Options),", line).group(1)
    entered = before.replace('    "joint":', line + '    "joint":')
    table.write_text(
        entered.replace("    ReplayOptions,\n", f"    ReplayOptions,\n    {options},\n", 1)
    )
    assert entered != before and line.count("\n") == 3
    return home


def test_the_file_is_in_good_style(followed):
    for path in ("clclip/detection/methods/fvit_lwf.py", "clclip/detection/registry.py"):
        for command in (["check", "-q"], ["format", "--check", "-q"]):
            call = [
                sys.executable,
                "-m",
                "ruff",
                *command,
                "--config",
                str(ROOT / "pyproject.toml"),
            ]
            subprocess.run([*call, path], cwd=followed, check=True)


def test_the_method_trains_and_is_scored_and_others_stay_valid(followed, tmp_path):
    from tests.helpers.bad_input import world

    world.make_data(tmp_path)
    own = yaml.safe_load(docs.files_to_write(PAGE)["lwf.yaml"])
    assert own == {"base": "shapes_10_10_fvit", "method": "fvit_lwf"}
    switches = {k: v for k, v in DETECTION["switches"].items() if k != "expert_width"}
    values = DETECTION | {"method": own["method"], "switches": switches}
    (tmp_path / "lwf.yaml").write_text(yaml.safe_dump(values))
    paths = os.pathsep.join(map(str, [followed, ROOT, ROOT / "docs"]))
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(list(METHODS))],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seed = tmp_path / "results/lwf/seed0"
    with (seed / "task2/history.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    column = next(name for name in rows[0] if name.endswith("lwf"))
    assert all(float(row[column]) >= -1e-6 for row in rows)  # a divergence, but for rounding
    assert "lwf" not in (seed / "task1/history.csv").read_text().splitlines()[0]
    assert set(json.loads((seed / "summary.json").read_text())["final"]) == {"P", "C", "A"}
    told = json.loads((tmp_path / "told.json").read_text())
    assert told.pop("page")
    assert told == json.loads((followed / "fingerprints.json").read_text())


def test_as_many_methods_against_forgetting_as_the_pages_say():
    """Bounds, plain fine-tuning and a second form of a method are none of their own."""
    counts = []
    for kind in KINDS.values():
        plain = {"fvit", "finetune", "joint", "zeroshot"}
        counts.append(sum(m.alias is None for n, m in kind.methods.items() if n not in plain))
    said = "{} detectors, {} classifiers".format(*counts)
    for page in ("README.md", "docs/compared.md"):
        assert f"| {said}" in (ROOT / page).read_text(encoding="utf-8"), (page, said)
