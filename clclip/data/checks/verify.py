"""Opening every image of a data set once, and deciding in which view its boxes are drawn."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clclip.core.errors import InputError
from clclip.data.checks.findings import Findings
from clclip.data.images import ImageFacts, inspect

logger = logging.getLogger(__name__)

_BATCH = 2048  # images between two lines of progress

# A box may stick out this many pixels and still be the work of a tool that rounds.
BOX_TOLERANCE = 2.0


def verify_images(
    folder: Path,
    images: Sequence[dict],
    split: str,
    on_bad_image: str,
    where: Callable[[int], str],
    findings: Findings,
) -> list[ImageFacts | None]:
    """Decode every image fully, in parallel.

    Args:
        folder: what "file_name" is relative to; a link that leads out of it is refused.
        images: {"id", "file_name"}.
        split: for the list of skipped images.
        on_bad_image: "fail" raises for the first bad image in order, "skip" lists it.
        where: the place of the n-th image in the annotations.
        findings: receives skipped images and warnings.

    Returns:
        The facts of each image, None where it was skipped.

    Raises:
        InputError: for a missing, broken, too large or outside image, unless they are skipped.
    """
    home = folder.resolve()
    facts: list[ImageFacts | None] = []
    # Decoders release the interpreter lock; more threads than that would only hold more decoded
    # images.
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        for start in range(0, len(images), _BATCH):
            names = [image["file_name"] for image in images[start : start + _BATCH]]
            for n, result in enumerate(pool.map(lambda name: _inspect(home, name), names), start):
                if isinstance(result, InputError):
                    _bad_image(result, images[n], split, on_bad_image, where(n), findings)
                    result = None
                elif result.animated:
                    findings.note("animated image, first frame used", repr(images[n]["file_name"]))
                facts.append(result)
            logger.info("%s: %d of %d images verified", split, len(facts), len(images))
    return facts


def _inspect(home: Path, name: str) -> ImageFacts | InputError:
    """Return the facts of one image, or what is wrong (returned, so that the pool keeps order)."""
    path = home / name
    try:
        if not path.resolve().is_relative_to(home):
            return InputError(
                f"link {name!r} that leaves the image folder", path, f"a file inside {home}"
            )
        return inspect(path)
    except InputError as error:
        return error
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a name too long
        return InputError(f"file name {name!r} cannot be read ({error})", home, "an image file")


def _bad_image(
    error: InputError, image: dict, split: str, on_bad_image: str, where: str, findings: Findings
) -> None:
    """Raise, or list the image as skipped."""
    if on_bad_image != "skip":
        expected = f"{error.expected} (or data.on_bad_image: skip)"
        raise InputError(f"{error.what}, listed at {where}", error.where, expected)
    findings.skip("image", split, image["file_name"], image["id"], error.what)


def choose_view(
    facts: ImageFacts,
    recorded: tuple[int | None, int | None],
    boxes: Sequence[Sequence[float]],
) -> tuple[bool, str | None]:
    """Decide whether boxes were drawn on the image as EXIF turns it, or on its stored pixels.

    The recorded size decides: first against the turned size, then against the stored one. Where it
    is left out, or has width and height exchanged, the view that holds all boxes is taken.

    Returns:
        (turn by EXIF, warning or None).

    Raises:
        InputError: with ``where`` left "", if no view fits.
    """
    turned, stored = facts.size(True), facts.size(False)
    if None not in recorded:
        if recorded == turned:
            open_question = facts.orientation != 1 and turned == stored
            return (
                True,
                "EXIF rotation applied, which the recorded size cannot confirm"
                if open_question
                else None,
            )
        if recorded == stored:
            return (
                False,
                "EXIF rotation not applied, because the recorded size is that of the stored pixels",
            )
        exchanged = recorded == stored[::-1] and _all_inside(boxes, turned)
        if exchanged:
            return True, "recorded width and height exchanged, the size of the file used"
        found = f"{recorded[0]} x {recorded[1]} recorded for an image of {turned[0]} x {turned[1]}"
        raise InputError(
            found, "", f"width {turned[0]} and height {turned[1]}, and boxes in its pixels"
        )
    fitting = [exif for exif in (True, False) if _all_inside(boxes, facts.size(exif))]
    return (fitting[0] if fitting else True), "size not recorded, that of the file used"


def _all_inside(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> bool:
    """Return whether every box lies in an image of (width, height), give or take the tolerance."""
    return all(
        x >= -BOX_TOLERANCE
        and y >= -BOX_TOLERANCE
        and x + w <= size[0] + BOX_TOLERANCE
        and y + h <= size[1] + BOX_TOLERANCE
        for x, y, w, h in boxes
    )
