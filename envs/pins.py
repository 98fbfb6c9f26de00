"""Write envs/clclip.yaml and envs/constraints.txt from the one hand-kept list, pyproject.toml.

uv run python envs/pins.py            # write
uv run python envs/pins.py --check    # exit status 1 if a file is out of step
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONDA_HEAD = """\
# Made from pyproject.toml by `python envs/pins.py`; for `snakemake --sdm conda`. The package
# itself is found through PYTHONPATH, which the Snakefile sets: Snakemake copies this file away.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python =3.12
  - pip =25.0
  - pip:
"""
CONSTRAINTS_HEAD = "# Exact versions; made from pyproject.toml by `python envs/pins.py`.\n"


def made(root: Path = ROOT) -> dict[Path, str]:
    """Return the files that follow from pyproject.toml: path -> text.

    The conda list holds of the pins those that the package itself needs (not those of the
    developers' tools), its direct dependencies first.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    direct = {_name(line) for line in project["project"]["dependencies"]}
    pinned = project["tool"]["uv"]["constraint-dependencies"]
    tools = set(project["tool"]["clclip"]["developers-only"])
    of_package = [line for line in pinned if _name(line) not in tools]
    of_package.sort(key=lambda line: _name(line) not in direct)
    lines = "".join(f"      - {line}\n" for line in of_package)
    return {
        root / "envs" / "clclip.yaml": CONDA_HEAD + lines,
        root / "envs" / "constraints.txt": CONSTRAINTS_HEAD + "".join(f"{p}\n" for p in pinned),
    }


def _name(requirement: str) -> str:
    """Return the package that a requirement names."""
    return re.split(r"[\s=<>!~;\[]", requirement, maxsplit=1)[0]


def main() -> int:
    """Write the files, or with --check tell which are out of step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if out of step")
    check = parser.parse_args().check
    wrong = [path for path, text in made().items() if path.read_text(encoding="utf-8") != text]
    for path in wrong:
        print(f"{path.relative_to(ROOT)}: {'out of step' if check else 'written'}")
        if not check:
            path.write_text(made()[path], encoding="utf-8")
    return int(check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
