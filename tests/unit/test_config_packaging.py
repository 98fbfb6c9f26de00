"""The declared environment: pins, files in the wheel, the conda list in step."""

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


def test_conda_environment_is_in_step(project, root):
    listed = yaml.safe_load((root / "envs" / "clclip.yaml").read_text())["dependencies"][-1]["pip"]
    constraints = project["tool"]["uv"]["constraint-dependencies"]
    assert set(project["project"]["dependencies"]) <= set(listed)
    assert set(listed) <= set(project["project"]["dependencies"]) | set(constraints)
    lines = (root / "envs" / "constraints.txt").read_text().splitlines()[1:]
    assert lines == constraints


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
