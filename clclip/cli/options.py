"""The options of every sub-command of the command line, and how a wrong one is told."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from clclip.core.errors import nearest
from clclip.workflow.cache import KINDS as CACHES

RESOURCES = Path("resources")


class Parser(argparse.ArgumentParser):
    """A parser that tells of a mistake in one line, with the nearest right word."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Parse; what a sub-command does not know is its own mistake, not the whole line's."""
        self.typed = list(args or [])
        found, left = super().parse_known_args(args, namespace)
        if left and " " in self.prog:
            self.error(f"unrecognized: {' '.join(left)}")
        return found, left

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        wrong = re.match(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            choices = re.findall(r"[\w.-]+", wrong[3])
            message = f"no {wrong[1].lower()} {wrong[2]!r}{nearest(wrong[2], choices)}"
        given = [word.split("=")[0] for word in self.typed if word.startswith("--")]
        known = self._option_string_actions
        for word in given:
            if not any(option.startswith(word) for option in known):
                message = f"no option {word}{nearest(word, known)}"
        told = f"error: {message}, in `{self.prog}`, expected what `{self.prog} --help` lists\n"
        self.exit(2, told)


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add the options of a stage that works on one task."""
    parser.add_argument("--task", type=Path, required=True, metavar="FILE", help="its task.json")
    parser.add_argument("--resources", type=Path, default=RESOURCES, metavar="DIR")
    parser.add_argument(
        "--attempt",
        type=int,
        default=1,
        metavar="N",
        help="from 2 on: end at once if the log says that the last attempt met bad input; train in "
        "micro-batches of half the size each time (a step's gradient is the same up to rounding)",
    )


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train``."""
    add_task(parser)
    text = "processes that share every batch, a GPU each if there are any"
    parser.add_argument("--devices", type=int, default=1, metavar="N", help=text)
    text = "nodes of this SLURM job, with so many devices each"
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help=text)


def add_resolve(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``resolve``."""
    parser.add_argument("--json", required=True, help="the task as JSON")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="task.json")


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare``."""
    parser.add_argument(
        "--spec", required=True, help="the data set as JSON: `spec` of `describe --json`"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def add_fetch_clip(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fetch-clip``."""
    parser.add_argument("--clip", required=True, help="the CLIP as JSON: the keys of `clip:`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def add_pretrain_clip(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pretrain-clip``."""
    parser.add_argument("--name", default="embedded", help="which embedded CLIP")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None, help="default: the shipped model's")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def add_embed_text(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``embed-text``."""
    parser.add_argument("--clip", type=Path, required=True, metavar="DIR")
    parser.add_argument("--names", required=True, help="class names as a JSON list")
    text = "one sentence with {} for the name, as classification reads it; default: the ensemble"
    parser.add_argument("--template", metavar="TEXT", help=text)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".safetensors")


def add_features(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``features``."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="indexed data set")
    parser.add_argument("--clip", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", choices=("train", "test"), required=True)
    parser.add_argument("--size", type=int, required=True, help="side of the canvas in px")
    text = "dense mode, e.g. tokens; image: one vector an image, for closed-form classifiers"
    parser.add_argument("--dense", required=True, help=text)
    parser.add_argument("--taps", required=True, help="blocks, e.g. 1,2,3; image: none, or from 1")
    parser.add_argument("--flip", action="store_true", help="mirrored images besides")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def add_aggregate(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``aggregate``."""
    parser.add_argument("--tasks", type=Path, nargs="+", metavar="DIR", help="task folders: a seed")
    parser.add_argument("--summaries", type=Path, nargs="+", metavar="FILE", help="of the seeds")
    parser.add_argument("--experiment", help="its name")
    parser.add_argument("--dataset")
    parser.add_argument("--protocol")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``report``."""
    parser.add_argument("--summaries", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--style", default="{}", help="looks as JSON")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that uses a finished run."""
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="results/NAME/seed0")
    parser.add_argument("--task", type=int, default=None, metavar="T", help="default: the last")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export``."""
    add_run(parser)
    text = "the weights, .safetensors; the card lies beside them, .json"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=text)


def add_finished_run(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that measures all tasks of a run."""
    parser.add_argument("run", type=Path, metavar="RUN", help="results/NAME/seed0, all tasks done")
    parser.add_argument("--out", type=Path, default=None, help="write the rows there as JSON too")
    parser.add_argument("--resources", type=Path, default=RESOURCES, metavar="DIR")


def _add_images(parser: argparse.ArgumentParser) -> None:
    """Add the images of a command that looks at some with a finished run."""
    add_run(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="files or folders")
    text = "default: resources beside the run's results, else in the working directory"
    parser.add_argument("--resources", type=Path, default=None, metavar="DIR", help=text)


def add_detect(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``detect``."""
    _add_images(parser)
    text = (
        "folder of the images with their boxes drawn, of detections.json, a list of COCO results "
        "(image_id, category_id, bbox as x, y, width, height, score; image and class by name), and "
        "of dataset.json, the same as a COCO data set with images and categories"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=text)
    text = "only these, separated by commas; may be repeated, as for a name that holds a comma"
    parser.add_argument("--classes", action="append", metavar="NAMES", help=text)
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score shown")


def add_classify(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``classify``."""
    _add_images(parser)
    text = "JSON: a list of image and classes, each of class and probability, the likeliest first"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=text)
    parser.add_argument("--top-k", type=int, default=5, help="classes listed per image")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``compare``."""
    for name in ("A", "B"):
        parser.add_argument(
            name.lower(), type=Path, metavar=name, help="results/EXPERIMENT, or only its name"
        )
    parser.add_argument(
        "--samples",
        type=int,
        default=1000,
        metavar="N",
        help="halves of the test images that AP is scored on",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``watch``."""
    parser.add_argument(
        "results", type=Path, nargs="?", default=Path("results"), help="default: results"
    )
    parser.add_argument("--once", action="store_true", help="print once and end")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="refresh")


def add_list(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``list``."""
    text = "a part of a name; a whole stream or experiment tells what can follow it"
    parser.add_argument("word", nargs="?", default="", metavar="WORD", help=text)


def add_describe(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``describe``."""
    parser.add_argument("experiment", help="STREAM_METHOD[_VARIANT...] or experiment file")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--yaml", action="store_true", help="the one file that says all of it")
    parser.add_argument("--data-root", default=None, metavar="DIR")
    parser.add_argument("--seeds", default=None, help="e.g. 0,1,2")
    text = "open every image, as `clclip prepare` does, and tell what is wrong or odd"
    parser.add_argument("--check-images", action="store_true", help=text)


def add_schema(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``schema``."""
    parser.add_argument(
        "--out", type=Path, default=None, metavar="FILE", help="default: the screen"
    )


def add_advise(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``advise``."""
    text = "folder of class folders, or with train/ in it, or an experiment file"
    parser.add_argument("place", type=Path, metavar="FOLDER|FILE", help=text)
    text = "folder of a CLIP, or JSON as of fetch-clip; default: the experiment's, else embedded"
    parser.add_argument("--clip", default=None, metavar="CLIP", help=text)
    parser.add_argument("--resources", type=Path, default=RESOURCES, metavar="DIR")
    text = "look at no further image after so long"
    parser.add_argument("--seconds", type=float, default=40.0, metavar="S", help=text)
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="result as JSON")


def add_probe_dense(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``probe-dense``."""
    _add_probe(parser, "50")


def add_zero_shot(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``zero-shot``."""
    _add_probe(parser, "all")


def _add_probe(parser: argparse.ArgumentParser, images: str) -> None:
    """Add the options of a command that measures a CLIP on so many images unless told otherwise."""
    parser.add_argument("--data", type=Path, default=None, metavar="DIR", help="default: shapes20")
    parser.add_argument("--clip", type=Path, default=None, metavar="DIR", help="default: embedded")
    parser.add_argument("--resources", type=Path, default=RESOURCES, metavar="DIR")
    text = f"the first N images of the test split, from 1 (default: {images})"
    parser.add_argument("--images", type=int, default=None, metavar="N", help=text)
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="result as JSON")


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``completion``."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="which shell")


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cache``."""
    parser.add_argument("action", choices=("list", "evict"), help="tell, or delete")
    parser.add_argument("ids", nargs="*", metavar="ID", help="evict: these entries")
    parser.add_argument("--kind", choices=tuple(CACHES), default=None, help="only this cache")
    parser.add_argument("--all", action="store_true", help="evict: every entry")
    parser.add_argument("--left-over", action="store_true", help="evict: what killed jobs left")
    text = "evict: what was last written to more than so many days ago"
    parser.add_argument("--older-than", type=float, default=None, metavar="DAYS", help=text)
    parser.add_argument("--resources", type=Path, default=RESOURCES, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="as JSON")
