"""The declared environment: pins, files in the wheel, the conda list in step."""

import os
import re
import runpy
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


def test_every_dependency_has_a_range_and_a_pin_inside_it(project):
    """A wheel installs beside other tools; a clone installs what was tested."""
    pins = {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in map(Requirement, project["tool"]["uv"]["constraint-dependencies"])
    }
    for line in project["project"]["dependencies"]:
        needed = Requirement(line)
        pin = pins[canonicalize_name(needed.name)]
        assert "==" not in line and pin in needed.specifier, line
        assert metadata.version(needed.name) == pin, line
    for line in project["dependency-groups"]["dev"]:
        name, version = line.split("==")
        assert metadata.version(name) == version, line


def test_the_lists_of_pins_are_made_from_the_one_in_pyproject(root, tmp_path):
    """``envs/pins.py`` makes them: a version changed in one place only is found."""
    pins = runpy.run_path(str(root / "envs" / "pins.py"))
    for path, text in pins["made"](root).items():
        assert path.read_text() == text, f"run `uv run python envs/pins.py`: {path.name}"
    source = (root / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(source.replace('"numpy==', '"numpy==9'))
    changed = pins["made"](tmp_path)
    listed = yaml.safe_load(changed[tmp_path / "envs" / "clclip.yaml"])["dependencies"][-1]["pip"]
    assert [line for line in listed if line.startswith("numpy==9")]
    assert len(set(listed)) == len(listed) > 100


def test_the_conda_list_leaves_out_developers_tools_alone(project, root):
    listed = yaml.safe_load((root / "envs" / "clclip.yaml").read_text())["dependencies"][-1]["pip"]
    tools = project["tool"]["clclip"]["developers-only"]
    names = {line.split("==")[0].split(";")[0].strip() for line in listed}
    assert {"torch", "snakemake", "pulp"} <= names and not names & set(tools)
    assert {Requirement(line).name for line in project["project"]["dependencies"]} <= names


def test_there_is_one_version_number(root):
    import clclip

    cited = yaml.safe_load((root / "CITATION.cff").read_text())
    assert cited["version"] == clclip.__version__ == metadata.version("clclip")


def test_data_files_lie_in_the_package(root):
    assert list((root / "clclip" / "clip" / "embedded" / "weights").glob("*.safetensors"))


@pytest.mark.slow
def test_wheel_finds_its_data(root, tmp_path):
    """An installed wheel, away from the checkout, knows streams, weights and the workflow."""
    import subprocess
    import sys
    import zipfile

    subprocess.run(["uv", "build", "--wheel", "-q", "-o", str(tmp_path), str(root)], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")

    def python(*line):
        done = subprocess.run(
            [sys.executable, *line],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = python("-m", "clclip", "describe", "shapes_10_10_clclip_no_text")
    assert "task 2: 10 classes" in said
    said = python("-m", "clclip", "run", "--smoke", "--", "--dry-run")
    assert str(tmp_path / "site/clclip/shipped/profiles/default") in said
    assert re.search(r"^train_task +4$", said, re.MULTILINE)
    python("-m", "clclip", "run", "--smoke")
    assert (tmp_path / "results" / "report.html").is_file()
