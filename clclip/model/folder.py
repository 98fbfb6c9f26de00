"""Writing a model folder whole: it is there with all its files, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from clclip.core.errors import InputError
from clclip.core.files import check_writable, making, umask
from clclip.model.card import is_model


def check_free(out: Path) -> None:
    """Refuse a place where a model folder cannot be written, before any work is done.

    Raises:
        InputError: if it holds something else than a model, or cannot be written.
    """
    if out.suffix in (".safetensors", ".json", ".pt"):
        expected = f"a folder, such as --out {out.with_suffix('')}/"
        raise InputError(f"a file name ({out.name!r})", "--out", expected)
    if out.name in ("", ".."):
        expected = "the name of a new folder, such as model/"
        raise InputError(f"no folder name ({str(out)!r})", "--out", expected)
    if out.exists() and not out.is_dir():
        raise InputError("a file", out, "a new folder, or that of an older model")
    if out.is_dir() and any(out.iterdir()) and not is_model(out):
        what = "a folder with other things in it"
        raise InputError(what, out, "a new folder, an empty one, or that of an older model")
    check_writable(out, folder=True)


def check_apart(out: Path, *sources: Path) -> None:
    """Refuse to write a model over one that it is made from: what it loses would be lost for good.

    Raises:
        InputError: if ``out`` is the folder of a source.
    """
    for source in sources:
        if out.resolve() == source.resolve():
            raise InputError("the model that it is made from", out, "another folder")


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``out``; it takes the place of ``out`` on success.

    Raises:
        InputError: as ``check_free``.
    """
    check_free(out)
    with making(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~umask())
        if out.exists():
            old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
            out.rename(old / "old")
            temporary.rename(out)
            shutil.rmtree(old)
        else:
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
