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

from clclip import options as known
from clclip.cache import add_cache
from clclip.core.homes import name_account
from clclip.core.terminal import ensure_utf8_mode, tolerate_characters
from clclip.errors import InputError
from clclip.retry import BAD_INPUT, refuse_known_bad_input

logger = logging.getLogger("clclip")


Command = tuple[str, Callable[[argparse.ArgumentParser], None], str]
RUN = "results/shapes_10_10_clclip/seed0"
TASK = f"{RUN}/task1/task.json"
COMMANDS: dict[str, Command] = {
    "resolve": (
        "write a task's resolved plan",
        known.add_resolve,
        "--json '{...}' --out task.json",
    ),
    "prepare": (
        "generate or verify and index a data set",
        known.add_prepare,
        """--spec '{"format":"shapes","id":"shapes20-v1","world":"shapes20"}' --out DIR""",
    ),
    "fetch-clip": (
        "put a CLIP in place: shipped, from a file or downloaded",
        known.add_fetch_clip,
        """--clip '{"model":"ViT-B-16","tag":"openai"}' --out resources/clip/mine""",
    ),
    "pretrain-clip": (
        "make the embedded CLIP again from captions",
        known.add_pretrain_clip,
        "--seed 1 --out resources/pretrained/seed1",
    ),
    "embed-text": (
        "embed class names by the prompt ensemble",
        known.add_embed_text,
        """--clip resources/clip/ID --names '["red circle"]' --out text.safetensors""",
    ),
    "features": (
        "compute a tower's frozen features once",
        known.add_features,
        "--data resources/data/ID --clip resources/clip/ID --split train --size 128 "
        "--dense tokens --taps 1,2,3 --flip --out DIR",
    ),
    "split": ("write the images and labels of a task", known.add_task, f"--task {TASK}"),
    "train": ("train a task", known.add_train, f"--task {TASK} --log train.log"),
    "predict": ("predict the test images with a task's model", known.add_task, f"--task {TASK}"),
    "score": ("score a task's predictions", known.add_task, f"--task {TASK}"),
    "aggregate": (
        "summarise the tasks of a seed, or the seeds of an experiment",
        known.add_aggregate,
        f"--tasks {RUN}/task1 {RUN}/task2 --experiment shapes_10_10_clclip --out summary.json",
    ),
    "report": (
        "write the HTML page, the table and the figures",
        known.add_report,
        "--summaries results/*/summary.json --out results/report.html",
    ),
    "compare": (
        "is A better than B? a paired comparison with confidence intervals",
        known.add_compare,
        "results/shapes_10_10_clclip results/shapes_10_10_fvit",
    ),
    "watch": (
        "show a running workflow on the terminal: tasks, progress, losses, time left",
        known.add_watch,
        "results --once",
    ),
    "detect": ("detect objects in images", known.add_detect, f"--run {RUN} photo.jpg --out boxes"),
    "classify": (
        "classify images",
        known.add_classify,
        f"--run {RUN} photo.jpg --out classes.json",
    ),
    "export": ("one weights file and a card", known.add_export, f"--run {RUN} --out model"),
    "describe": (
        "what an experiment would run and need",
        known.add_describe,
        "shapes_10_10_clclip",
    ),
    "cache": (
        "list or evict kept features and shared results; a run makes them again",
        add_cache,
        "evict --older-than 30",
    ),
    "schema": (
        "print the JSON schema of the config files",
        known.add_schema,
        "--out config/schema.json",
    ),
    "probe-dense": (
        "measure the dense modes of a CLIP on labelled images and recommend one",
        known.add_probe_dense,
        "--data resources/data/ID --clip resources/clip/ID",
    ),
    "open-vocabulary": (
        "AP of the classes of later tasks by the cost volume alone, after each task",
        known.add_finished_run,
        RUN,
    ),
    "feature-drift": (
        "how far later tasks have moved the features of earlier classes' test images",
        known.add_finished_run,
        "results/shapes_cil_seca/seed0",
    ),
    "zero-shot": (
        "zero-shot class of the ground-truth boxes by dense tokens",
        known.add_zero_shot,
        "--data resources/data/shapes20-v1",
    ),
    "completion": (
        "print the script that completes words of clclip in a shell",
        known.add_completion,
        'bash > clclip.bash && source clclip.bash   (for good: eval "$(clclip completion bash)")',
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = known.Parser(
        "clclip",
        description="CLIP-based continual learning",
        epilog="example: clclip describe shapes_10_10_clclip; `clclip COMMAND --help` has one more",
    )
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
    if argv is None:
        ensure_utf8_mode()
    tolerate_characters()
    name_account()
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
