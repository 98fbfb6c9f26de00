"""Writing files whole: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError

# Errors of the disk or of a path that the user can fix, as opposed to a fault of the program.
_NAMES = "ENOSPC EDQUOT EFBIG EROFS EIO EACCES EPERM EISDIR ENOTDIR EEXIST ENAMETOOLONG ELOOP"
USER_FIXABLE = frozenset(getattr(errno, name) for name in _NAMES.split())
DIVERGED = "a loss is not finite"  # in the words of clclip/training/fit.py


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it replaces ``path`` on success, else is removed.

    The temporary file lies in the same folder because ``os.replace`` is atomic only within one
    file system. The suffix stays, since libraries choose a format by it.
    """
    with making(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~umask())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if mistake := as_input_error(error, path):
            raise mistake from None
        raise


@contextlib.contextmanager
def making(path: Path) -> Iterator[None]:
    """Turn a failure to make a path, whatever the system's reason, into bad input.

    Raises:
        InputError: if making it is refused; not where the process has no handles or memory left.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise _unwritable(error.strerror or str(error), path) from None
    except ValueError as error:  # a zero byte, or a character that no file name can hold
        raise _unwritable(str(error), path) from None


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        InputError: if it cannot be made.
    """
    with making(path):
        path.mkdir(parents=True, exist_ok=True)


def check_writable(path: Path, folder: bool = False) -> None:
    """Refuse now a path that could not be written once the work is done; nothing is left there.

    Args:
        path: a file, or a folder that is to hold files.
        folder: which of the two.

    Raises:
        InputError: if it is the other of the two, or its place refuses a file.
    """
    with making(path):
        if path.is_dir() and not folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        place = path if folder else path.parent
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent  # what is missing is made when the file is written
        handle, name = tempfile.mkstemp(dir=place, prefix=".tmp-")
        os.close(handle)
        Path(name).unlink()


def as_input_error(error: BaseException, path: Path | None = None) -> InputError | None:
    """Return an InputError for an error that the user can fix, else None.

    That is a full or read-only disk, a missing permission, a folder in place of a file, a training
    that diverges.

    Args:
        error: any error; safetensors tells of a full disk in the text of an error of its own.
        path: what was to be written; None: the error's own file, else the working directory.
    """
    if isinstance(error, InputError):
        return None
    what, _, _ = str(error).partition("; ")
    if what.startswith(DIVERGED):
        return InputError(what, "training", "a lower training.lr, or smaller weights of losses")
    number = error.errno if isinstance(error, OSError) else None
    if match := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(match[1])
    if number is None or number not in USER_FIXABLE:
        return None
    where = path or getattr(error, "filename", None) or Path.cwd()
    return _unwritable(os.strerror(number), where)


def _unwritable(reason: str, where: object) -> InputError:
    expected = "a path that can be read and written, with space left on its disk"
    return InputError(f"cannot be written ({reason})", where, expected)


def expanded(path: str | Path) -> Path:
    """Return ``path`` with a leading ``~`` replaced; that of a user unknown here stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def umask() -> int:
    """Return the process's umask; mkstemp makes files that only the owner may read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data``, whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write ``value`` as JSON with sorted keys; NaN is refused, because it is not JSON."""
    write_text(path, json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file, whether or not it begins with a byte order mark.

    Raises:
        InputError: if the file is missing, is a directory, is not UTF-8 or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError("no such file", path, "an existing JSON file") from None
    except ValueError as error:  # not UTF-8, not JSON, or a number beyond all bounds
        raise InputError(f"not JSON ({error})", path, "a complete JSON file in UTF-8") from None
    except RecursionError:
        raise InputError("JSON nested too deeply", path, "a flat JSON file") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot be read ({reason})", path, "a readable JSON file") from None


def read_object(path: Path, keys: Sequence[str], maker: str) -> dict[str, Any]:
    """Read a JSON object that an earlier stage wrote.

    Args:
        path: the file.
        keys: what it must hold.
        maker: the command that writes such files, for the message.

    Raises:
        InputError: as ``read_json``, or if it is no object or lacks a key.
    """
    value = read_json(path)
    expected = f"a file made by `clclip {maker}`"
    if not isinstance(value, dict):
        raise InputError(f"a {type(value).__name__}", path, expected)
    for key in keys:
        if key not in value:
            raise InputError(f"no key {key!r}", path, expected)
    return value
