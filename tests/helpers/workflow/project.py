"""A finished run to edit: a copy of the project whose stages write tiny files in no time.

Snakemake, the plan, the resolve stage and the fingerprints are the real ones; the other stages are
stand-ins (``stub_commands.py``), because what is tested is which jobs run, not what they compute.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from PIL import Image

from tests.helpers.workflow import warm

CLASSES = ["ace", "jack", "king", "nine", "queen", "ten"]
EXPERIMENT = {
    "kind": "detection",
    "method": "clclip",
    "data": {
        "format": "coco",
        "root": "cards",
        "images": "images",
        "train": "train.json",
        "test": "test.json",
    },
    "tasks": [["ace", "jack"], ["king"], ["nine"]],
    "training": {"epochs": 1, "lr": 0.01, "weight_decay": 0.1},
}


@dataclass
class Project:
    """A copy of the project with its own working directory."""

    home: Path

    @property
    def work(self) -> Path:
        """The working directory of the runs."""
        return self.home / "work"

    def write(self, name: str, values: dict | str) -> Path:
        """Write a YAML file into the working directory."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False)
        path.write_text(text, encoding="utf-8")
        return path

    def snakemake(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake in the working directory with this project's Snakefile."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        options = ("-s", str(self.home / "Snakefile"), *options)
        return warm.snakemake(options, self.work, environment | {"PWD": str(self.work)})

    def in_background(
        self, *config: str, until: str, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a run in a process group of its own, and wait until the file ``until`` is there.

        What it says goes to ``said.txt`` in the working directory.
        """
        command = [sys.executable, "-m", "snakemake", "-s", str(self.home / "Snakefile")]
        values = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        with (self.work / "said.txt").open("wb") as said:
            run = subprocess.Popen(
                [*command, "--cores", "1", *_config(config)],
                cwd=self.work,
                env=values | {"PWD": str(self.work)} | environment,
                start_new_session=True,
                stdout=said,
                stderr=said,
            )
        deadline = time.monotonic() + 120
        while not (self.work / until).exists():
            assert run.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        return run

    def said(self) -> str:
        """Return what the run in the background has said."""
        return (self.work / "said.txt").read_text()

    def run(self, *config: str, options: Sequence[str] = ()) -> str:
        """Run to the end; return the output."""
        done = self.snakemake("--cores", "2", *options, *_config(config))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, *config: str, options: Sequence[str] = ()) -> set[str]:
        """Return the jobs of a dry run, e.g. ``train_task 0/3`` (seed/task) or ``report``."""
        done = self.snakemake("--cores", "2", "-n", *options, *_config(config))
        assert done.returncode == 0, done.stdout + done.stderr
        return jobs(done.stdout + done.stderr)


def _config(pairs: Sequence[str]) -> list[str]:
    return ["--config", *pairs] if pairs else []


def jobs(text: str) -> set[str]:
    """Return the jobs that a dry run announces."""
    found = set()
    for block in re.split(r"\n(?=(?:local)?rule \w+:\n)", text):
        head = re.match(r"(?:local)?rule (\w+):\n", block)
        if head is None or head.group(1) == "all":
            continue
        wildcards = re.search(r"wildcards: (.*)", block)
        values = (
            dict(pair.split("=") for pair in wildcards.group(1).split(", ")) if wildcards else {}
        )
        place = "/".join(values[key] for key in ("seed", "task") if key in values)
        other = " ".join(values[key] for key in ("split",) if key in values)
        found.add(" ".join(filter(None, [head.group(1), place, other])))
    return found


def make_cards(folder: Path, classes: Sequence[str] = CLASSES) -> None:
    """Make a small COCO data set: two images per split, one box of every class on each."""
    (folder / "images").mkdir(parents=True)
    for split in ("train", "test"):
        images, boxes = [], []
        for number in (1, 2):
            name = f"{split}{number}.png"
            Image.new("RGB", (64, 48), (number * 40, 90, 20)).save(folder / "images" / name)
            images.append({"id": number, "file_name": name, "width": 64, "height": 48})
            for k in range(len(classes)):
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": number,
                        "category_id": k + 1,
                        "bbox": [4 * k, 3, 10, 12],
                        "area": 120,
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(classes)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))


def copy_project(root: Path, home: Path) -> Project:
    """Copy the checkout, with stand-ins for the stages."""
    for name in ("clclip", "workflow", "config", "profiles", "envs"):
        shutil.copytree(root / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "Snakefile", home / "Snakefile")
    shutil.copy(Path(__file__).parent / "stub_commands.py", home / "clclip" / "stub_commands.py")
    with (home / "clclip" / "cli" / "main.py").open("a") as main:
        main.write("\n\nfrom clclip.stub_commands import use_stubs\n\nuse_stubs()\n")
    project = Project(home)
    project.work.mkdir()
    return project
