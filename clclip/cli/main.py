"""The command line: one sub-command per stage of the workflow, and the commands for people.

Exit status 0 on success, 2 with one line ``error: WHAT, WHERE, WHAT WOULD BE RIGHT`` on bad input,
1 on a fault of the program. Torch and the stages are imported by the command that needs them, so
that ``--help`` is quick.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clclip.cli.command import commands
from clclip.cli.parser import build_parser
from clclip.core.errors import InputError
from clclip.core.homes import name_account
from clclip.core.terminal import ensure_utf8_mode, refuse_windows, tolerate_characters
from clclip.workflow.retry import BAD_INPUT, refuse_known_bad_input

logger = logging.getLogger("clclip")
NOISY = ("matplotlib", "PIL", "fontTools", "httpx", "urllib3", "filelock", "onnx_ir", "onnxscript")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    refuse_windows()
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
        with _named_output():
            status = commands()[options.command].run(options)
        if options.log is not None:
            _log_end(options.command, time.monotonic() - start)
        return status or 0
    except InputError as error:
        return _fail(error, 2, options.debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail(RuntimeError("interrupted"), 130, False)
    except Exception as error:  # a fault of the program: one line, the traceback with --debug
        from clclip.core.files import as_input_error

        mistake = as_input_error(error)
        return _fail(mistake or error, 2 if mistake else 1, options.debug)


@contextlib.contextmanager
def _named_output() -> Iterator[None]:
    """Say of a standard output that cannot be written, on a full disk say, that it is that.

    What is buffered is written at the end: Python itself would only complain after the exit.

    Raises:
        InputError: if it cannot be written, unless its reader has gone.
    """
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return

    def checked(write: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*args: Any) -> Any:
            try:
                return write(*args)
            except BrokenPipeError:
                raise
            except OSError as error:
                with contextlib.suppress(OSError, ValueError):  # what is left is not tried again
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                what = f"cannot be written ({error.strerror})"
                expected = "a file or a terminal with space left on its disk"
                raise InputError(what, "standard output", expected) from None

        return attempt

    for name in ("write", "flush"):
        setattr(stream, name, checked(getattr(stream, name)))
    try:
        yield
        stream.flush()
    finally:
        for name in ("write", "flush"):
            delattr(stream, name)


def _start_logging(log: Path | None, debug: bool) -> None:
    """Log to the file if one is given, and to stderr on a terminal or without a file."""
    logging.raiseExceptions = False  # a full disk is reported once, by the command that meets it
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
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _log_end(stage: str, seconds: float) -> None:
    """Write the line from which the report reads a stage's run time."""
    from clclip.core.machine import peak_process_mib

    logger.info("done stage=%s seconds=%.1f peak_mib=%d", stage, seconds, peak_process_mib())


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
