"""The command line: one sub-command per stage of the workflow, and the commands for people.

Exit status 0 on success, 2 with one line ``error: WHAT, WHERE, WHAT WOULD BE RIGHT`` on bad input,
1 on a fault of the program. Torch and the stages are imported by the command that needs them, so
that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from clclip.errors import InputError
from clclip.retry import BAD_INPUT, refuse_known_bad_input

logger = logging.getLogger("clclip")
RESOURCES = Path("resources")


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
        "micro-batches of half the size each time, with the same result",
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
        "--spec", required=True, help="the data set as JSON (see `describe --json`)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def add_fetch_clip(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fetch-clip``."""
    parser.add_argument("--clip", required=True, help="the CLIP as JSON: model, tag, file")
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
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".safetensors")


def add_features(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``features``."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="indexed data set")
    parser.add_argument("--clip", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", choices=("train", "test"), required=True)
    parser.add_argument("--size", type=int, required=True, help="side of the canvas in px")
    parser.add_argument("--dense", required=True, help="dense mode, e.g. tokens")
    parser.add_argument("--taps", required=True, help="blocks, e.g. 1,2,3")
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
    parser.add_argument("--out", type=Path, required=True)


def add_detect(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``detect``."""
    add_run(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="files or folders")
    parser.add_argument("--classes", default=None, help="only these, separated by commas")
    parser.add_argument("--threshold", type=float, default=0.3, help="lowest score shown")


def add_classify(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``classify``."""
    add_run(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="files or folders")
    parser.add_argument("--top-k", type=int, default=5, help="classes listed per image")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``compare``."""
    for name in ("A", "B"):
        parser.add_argument(
            name.lower(), type=Path, metavar=name, help="results/EXPERIMENT, or only its name"
        )
    parser.add_argument("--samples", type=int, default=1000, metavar="N", help="bootstrap samples")
    parser.add_argument("--json", action="store_true", help="as JSON")


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``watch``."""
    parser.add_argument(
        "results", type=Path, nargs="?", default=Path("results"), help="default: results"
    )
    parser.add_argument("--once", action="store_true", help="print once and end")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="refresh")


def add_describe(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``describe``."""
    parser.add_argument("experiment", help="shipped name or experiment file")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--data-root", default=None, metavar="DIR")
    parser.add_argument("--seeds", default=None, help="e.g. 0,1,2")


def add_schema(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``schema``."""
    parser.add_argument(
        "--out", type=Path, default=None, metavar="FILE", help="default: the screen"
    )


def add_probe(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``probe-dense`` and ``zero-shot``."""
    parser.add_argument("--data", type=Path, default=None, metavar="DIR", help="default: shapes20")
    parser.add_argument("--clip", type=Path, default=None, metavar="DIR", help="default: embedded")
    parser.add_argument("--resources", type=Path, default=RESOURCES, metavar="DIR")
    parser.add_argument(
        "--images", type=int, default=None, help="how many (default: all of a split)"
    )
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="result as JSON")


Command = tuple[str, Callable[[argparse.ArgumentParser], None], str]
RUN = "results/shapes_10_10_clclip/seed0"
TASK = f"{RUN}/task1/task.json"
COMMANDS: dict[str, Command] = {
    "resolve": ("write a task's resolved plan", add_resolve, "--json '{...}' --out task.json"),
    "prepare": (
        "generate or verify and index a data set",
        add_prepare,
        """--spec '{"format":"shapes","id":"shapes20-v1","world":"shapes20"}' --out DIR""",
    ),
    "fetch-clip": (
        "put a CLIP in place: shipped, from a file or downloaded",
        add_fetch_clip,
        """--clip '{"model":"ViT-B-16","tag":"openai"}' --out resources/clip/mine""",
    ),
    "pretrain-clip": (
        "make the embedded CLIP again from captions",
        add_pretrain_clip,
        "--seed 1 --out resources/pretrained/seed1",
    ),
    "embed-text": (
        "embed class names by the prompt ensemble",
        add_embed_text,
        """--clip resources/clip/ID --names '["red circle"]' --out text.safetensors""",
    ),
    "features": (
        "compute a tower's frozen features once",
        add_features,
        "--data resources/data/ID --clip resources/clip/ID --split train --size 128 "
        "--dense tokens --taps 1,2,3 --flip --out DIR",
    ),
    "split": ("write the images and labels of a task", add_task, f"--task {TASK}"),
    "train": ("train a task", add_train, f"--task {TASK} --log train.log"),
    "predict": ("predict the test images with a task's model", add_task, f"--task {TASK}"),
    "score": ("score a task's predictions", add_task, f"--task {TASK}"),
    "aggregate": (
        "summarise the tasks of a seed, or the seeds of an experiment",
        add_aggregate,
        f"--tasks {RUN}/task1 {RUN}/task2 --experiment shapes_10_10_clclip --out summary.json",
    ),
    "report": (
        "write the HTML page, the table and the figures",
        add_report,
        "--summaries results/*/summary.json --out results/report.html",
    ),
    "compare": (
        "is A better than B? a paired comparison with confidence intervals",
        add_compare,
        "results/shapes_10_10_clclip results/shapes_10_10_fvit",
    ),
    "watch": (
        "show a running workflow on the terminal: tasks, progress, losses, time left",
        add_watch,
        "results --once",
    ),
    "detect": ("detect objects in images", add_detect, f"--run {RUN} photo.jpg --out boxes"),
    "classify": ("classify images", add_classify, f"--run {RUN} photo.jpg --out classes.json"),
    "export": ("one weights file and a card", add_run, f"--run {RUN} --out model"),
    "describe": ("what an experiment would run and need", add_describe, "shapes_10_10_clclip"),
    "schema": ("print the JSON schema of the config files", add_schema, "--out config/schema.json"),
    "probe-dense": (
        "measure the dense modes of a CLIP on labelled images and recommend one",
        add_probe,
        "--data resources/data/ID --clip resources/clip/ID",
    ),
    "zero-shot": (
        "zero-shot class of the ground-truth boxes by dense tokens",
        add_probe,
        "--data resources/data/shapes20-v1",
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser("clclip", description="CLIP-based continual learning")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, add, example) in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: clclip {name} {example}".replace("%", "%%"),
        )
        add(sub)
        sub.add_argument("--log", type=Path, default=None, metavar="FILE", help="log file")
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(argv)
    start = time.monotonic()
    try:
        if options.log is not None and getattr(options, "attempt", 1) > 1:
            refuse_known_bad_input(options.log)
        _start_logging(options.log, options.debug)
        from clclip import commands

        commands.RUNNERS[options.command](options)
        if options.log is not None:
            _log_end(options.command, time.monotonic() - start)
        return 0
    except InputError as error:
        return _fail(error, 2, options.debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail(RuntimeError("interrupted"), 130, False)
    except Exception as error:  # a fault of the program: one line, the traceback with --debug
        from clclip.files import refusal

        told = refusal(error)  # ... unless the disk or a path refused
        return _fail(told or error, 2 if told else 1, options.debug)


def _start_logging(log: Path | None, debug: bool) -> None:
    """Log to the file if one is given, and to stderr on a terminal or without a file."""
    logging.raiseExceptions = False  # a full disk is told once, by the command that meets it
    for old in [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]:
        logging.getLogger().removeHandler(old)
        with contextlib.suppress(OSError):
            old.close()
    handlers: list[logging.Handler] = []
    if log is not None:
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("")  # then append: processes that train together write into one log
            handlers.append(logging.FileHandler(log, mode="a", encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot write ({error.strerror})", f"--log {log}", "a file") from None
    if log is None or sys.stderr.isatty():
        handlers.append(logging.StreamHandler())
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=handlers,
        force=True,
    )
    for noisy in ("matplotlib", "PIL", "fontTools", "httpx", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _log_end(stage: str, seconds: float) -> None:
    """Write the line from which the report reads a stage's run time."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # KiB on Linux
    logger.info("done stage=%s seconds=%.1f peak_mib=%d", stage, seconds, peak)


def _fail(error: BaseException, status: int, debug: bool) -> int:
    """Tell of an error in one line, on stderr and in the log file."""
    text = " ".join(str(error).split()) or type(error).__name__
    if status == 1 and not isinstance(error, InputError):
        text = f"{type(error).__name__}: {text} (a fault of clclip; --debug shows where)"
    if any(isinstance(h, logging.FileHandler) for h in logging.getLogger().handlers):
        mark = BAD_INPUT if status == 2 else "error: "
        logger.error("%s%s", mark, text, exc_info=debug or status == 1)
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"error: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
