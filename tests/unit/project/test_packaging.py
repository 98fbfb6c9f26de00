"""The declared environment: pins, files in the wheel, the conda list in step."""

import runpy
import tomllib
from importlib import metadata

import pytest
import yaml


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


def test_direct_dependencies_are_pinned_to_what_is_installed(project):
    pinned = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    for requirement in pinned:
        name, version = requirement.split("==")
        assert metadata.version(name) == version, requirement


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
    direct = {line.split("==")[0] for line in project["project"]["dependencies"]}
    assert direct <= names


def test_there_is_one_version_number(root):
    import clclip

    cited = yaml.safe_load((root / "CITATION.cff").read_text())
    assert cited["version"] == clclip.__version__ == metadata.version("clclip")


def test_data_files_lie_in_the_package(root):
    assert list((root / "clclip" / "clip" / "embedded" / "weights").glob("*.safetensors"))


@pytest.mark.slow
def test_wheel_finds_its_data(root, tmp_path):
    """An installed wheel, away from the checkout, knows streams, variants and weights."""
    import subprocess
    import sys
    import zipfile

    subprocess.run(["uv", "build", "--wheel", "-q", "-o", str(tmp_path), str(root)], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import clclip; from clclip.cli.main import main; print(clclip.__file__); "
        "raise SystemExit(main(['describe', 'shapes_10_10_clclip_no_text']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "site",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout and "task 2: 10 classes" in done.stdout
