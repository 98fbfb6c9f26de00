r"""Output in any terminal and locale: a character that cannot be shown is no error.

Class names and paths may hold any character. Python writes and names files in the encoding of the
locale, and ends with UnicodeEncodeError where that lacks one. So the program runs in Python's
UTF-8 mode (the default of Python 3.15) whatever the locale says, and what the terminal itself
cannot show is written as ``\\u732b``.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

# the programs that may be started once more: the command line, and snakemake's
STARTED = ("clclip", "snakemake", "__main__.py", "main.py", "cli.py")


def refuse_windows() -> None:
    """End the program with one line on Windows: locks, signals and links are those of POSIX."""
    if sys.platform == "win32":
        message = "error: got Windows, in the platform, expected Linux or macOS (WSL 2 is a Linux)"
        print(message, file=sys.stderr, flush=True)
        os._exit(2)


def tolerate_characters() -> None:
    """Let standard output and error write what they cannot show as an escape sequence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def ensure_utf8_mode() -> None:
    """Start this very command again in UTF-8 mode if the locale has another encoding.

    The streams keep the encoding of the terminal. Processes that are started inherit both.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode:
        return
    if Path(sys.argv[0]).name not in STARTED or not sys.executable:
        return  # another program that uses this package
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    os.environ["PYTHONUTF8"] = "1"
    os.environ["PYTHONIOENCODING"] = f"{encoding}:backslashreplace"
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
