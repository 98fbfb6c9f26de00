"""Where downloads are stored: a job's home folder may be missing or read-only.

The libraries that download look at ``HF_HOME``, then ``XDG_CACHE_HOME``, then ``~/.cache``. Of an
account without a home they make a folder called ``~`` in the working directory.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from clclip.core.errors import InputError
from clclip.core.files import check_writable, expanded

HUB_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
CHOICE = "HF_HOME=DIR or XDG_CACHE_HOME=DIR, a folder that can be written"


def cache_home() -> Path | None:
    """Return the folder of caches, None for an account without a home that names none."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return expanded(named)
    home = expanded("~")
    return home / ".cache" if home.is_absolute() else None


def hub_home() -> Path | None:
    """Return the folder into which the Hugging Face hub downloads, None if there is none."""
    for name in HUB_VARIABLES:
        if named := os.environ.get(name):
            return expanded(named)
    if named := os.environ.get("HF_HOME"):
        return expanded(named)
    caches = cache_home()
    return caches and caches / "huggingface"


def plain_home() -> Path | None:
    """Return the folder of downloads from other addresses, None if there is none."""
    caches = cache_home()
    if caches is not None and (os.environ.get("XDG_CACHE_HOME") or os.access(caches, os.W_OK)):
        return caches / "clip"
    named = os.environ.get("HF_HOME")
    return expanded(named) / "clip" if named else caches and caches / "clip"


def writable(folder: Path | None, what: str) -> Path:
    """Return ``folder``, in which something is to be stored.

    Raises:
        InputError: if there is none, or it cannot be written.
    """
    if folder is None:
        raise InputError(f"no home folder to keep {what} in", "the environment", CHOICE)
    try:
        check_writable(folder, folder=True)
    except InputError as error:
        raise InputError(f"{what}: {error.what}", folder, CHOICE) from None
    return folder


def name_account() -> None:
    """Give an account that the system does not know a name: torch asks for one, and would end."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"user{os.getuid()}"
