"""Opening every image of a data set once: each is there, whole and where it may lie."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.data.checks.findings import Findings
from clclip.data.images import ImageFacts, inspect
from clclip.data.readers.links import broken_link, check_inside

logger = logging.getLogger(__name__)

_BATCH = 2048  # images between two lines of progress
_LENGTH = 32  # hex digits of a digest


def verify_images(
    folder: Path,
    images: Sequence[dict[str, Any]],
    split: str,
    on_bad_image: str,
    where: Callable[[int], str],
    findings: Findings,
    home: Path | None = None,
) -> list[ImageFacts | None]:
    """Decode every image fully, in parallel.

    Args:
        folder: what "file_name" is relative to.
        images: {"id", "file_name"}.
        split: for the list of skipped images.
        on_bad_image: "fail" raises for the first bad image in order, "skip" lists it.
        where: the place of the n-th image in the annotations.
        findings: receives skipped images, warnings and the digests of the good images' bytes.
        home: a folder that no link may leave; None follows links wherever they lead.

    Returns:
        The facts of each image, None where it was skipped.

    Raises:
        InputError: for a missing, broken, too large or outside image, unless they are skipped.
    """
    facts: list[ImageFacts | None] = []
    contents = findings.contents.setdefault(split, {})
    # Decoders release the interpreter lock; more threads than that would only hold more decoded
    # images.
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        for start in range(0, len(images), _BATCH):
            names = [image["file_name"] for image in images[start : start + _BATCH]]
            look = functools.partial(_inspect, folder, home)
            for n, result in enumerate(pool.map(look, names), start):
                if isinstance(result, InputError):
                    _bad_image(result, images[n], split, on_bad_image, where(n), findings)
                    facts.append(None)
                    continue
                own, contents[images[n]["file_name"]] = result
                if own.animated:
                    findings.note("animated image, first frame used", repr(images[n]["file_name"]))
                facts.append(own)
            logger.info("%s: %d of %d images verified", split, len(facts), len(images))
    return facts


def _inspect(folder: Path, home: Path | None, name: str) -> tuple[ImageFacts, str] | InputError:
    """Return the facts of one image and the digest of its bytes.

    Or else what is wrong, not raised: so the pool keeps the order.
    """
    path = folder / name
    try:
        check_inside(path, name, home)
        facts = inspect(path)
        with path.open("rb") as handle:  # decoded a moment ago, so read from memory
            return facts, hashlib.file_digest(handle, "sha256").hexdigest()[:_LENGTH]
    except InputError as error:
        broken = broken_link(path)
        return InputError(f"{broken} ({name!r})", path, "an image file") if broken else error
    except (OSError, RuntimeError, ValueError) as error:  # a name too long
        return InputError(f"file name {name!r} cannot be read ({error})", folder, "an image file")


def _bad_image(
    error: InputError,
    image: dict[str, Any],
    split: str,
    on_bad_image: str,
    where: str,
    findings: Findings,
) -> None:
    """Raise, or list the image as skipped."""
    if on_bad_image != "skip":
        expected = f"{error.expected} (or data.on_bad_image: skip)"
        raise InputError(f"{error.what}, listed at {where}", error.where, expected)
    findings.skip("image", split, image["file_name"], image["id"], error.what)
