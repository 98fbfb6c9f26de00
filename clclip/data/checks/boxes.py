"""Cleaning annotated boxes: small overhang is clipped, everything else is the user's choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from clclip.core.errors import InputError
from clclip.data.checks.exif import BOX_TOLERANCE
from clclip.data.checks.findings import Findings
from clclip.data.readers.annotated import Annotated

# Overhang below this is rounding in the file (x + width = 640.0000001); it is cut without being
# counted.
_ROUNDING = 0.02

_CHOICE = "(or data.on_bad_box: clip | skip)"


def clip_box(box: list[float], width: int, height: int) -> tuple[list[float] | None, float]:
    """Cut [x, y, w, h] at the border of its image.

    Returns:
        (box, overhang in px before the cut); the box is None if nothing of it is left.
    """
    x, y, w, h = box
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + w, float(width)), min(y + h, float(height))
    overhang = max(left - x, top - y, x + w - right, y + h - bottom)
    if right <= left or bottom <= top:
        return None, overhang
    if overhang <= 0:
        return box, 0.0
    return [left, top, right - left, bottom - top], overhang


def fault(box: list[float], width: int, height: int) -> str | None:
    """Say what is wrong with a box beyond ``BOX_TOLERANCE`` pixels of overhang, or None."""
    if not all(map(math.isfinite, box)):
        return "is not finite"
    if box[2] <= 0 or box[3] <= 0:
        return "has no positive width and height"
    clipped, overhang = clip_box(box, width, height)
    if overhang > BOX_TOLERANCE:
        return f"lies up to {overhang:g} px outside its image of {width} x {height}"
    if clipped is None:
        return f"lies outside its image of {width} x {height}"
    return None


def refuse_bad_boxes(annotated: Annotated, on_bad_box: str) -> None:
    """Refuse an annotation that is no four numbers, unless bad boxes are left out.

    Raises:
        InputError: for the first one, with ``on_bad_box`` "fail".
    """
    if annotated.bad_boxes and on_bad_box == "fail":
        error = annotated.bad_boxes[min(annotated.bad_boxes)]
        raise InputError(error.what, error.where, f"{error.expected} {_CHOICE}")


def clean_boxes(
    annotated: Annotated,
    sizes: Mapping[int, tuple[int, int]],
    split: str,
    on_bad_box: str,
    findings: Findings,
    turned: Mapping[int, tuple[int, int]] | None = None,
) -> list[dict[str, Any]]:
    """Return the annotations with boxes inside their images.

    Args:
        annotated: the split; annotations of images that are not in ``sizes`` are left out.
        sizes: image id -> (width, height) in the view the boxes are drawn in.
        split: for the list of skipped boxes.
        on_bad_box: "fail"; "clip" cuts boxes that stick out and leaves out what no cut can save;
            "skip".
        findings: receives counts and skipped boxes.
        turned: image id -> size of the view not taken, of images with an EXIF orientation.

    Raises:
        InputError: for the first bad box, with ``on_bad_box`` "fail".
    """
    refuse_bad_boxes(annotated, on_bad_box)
    names = {image["id"]: image["file_name"] for image in annotated.images}
    shift = _id_shift(annotated, split, findings)
    clean = []
    for n, annotation in enumerate(annotated.annotations):
        number = annotation["image_id"]
        if number not in sizes:
            continue
        if error := annotated.bad_boxes.get(n):
            findings.skip("box", split, names[number], annotation["id"], _in_words(error))
            continue
        box, size = annotation["bbox"], sizes[number]
        reason = _reason(box, size, (turned or {}).get(number))
        if reason and on_bad_box == "fail":
            raise InputError(reason, annotated.where_box(n), f"a box inside its image {_CHOICE}")
        savable = not reason or (on_bad_box == "clip" and _has_area(box))
        clipped, overhang = clip_box(box, *size) if savable else (None, 0.0)
        if clipped is None:
            findings.skip("box", split, names[number], annotation["id"], reason)
            continue
        area = annotation["area"]
        if overhang > _ROUNDING:
            findings.clipped += 1
            area = min(area, clipped[2] * clipped[3])
        clean.append({**annotation, "id": annotation["id"] + shift, "bbox": clipped, "area": area})
    return clean


def _has_area(box: list[float]) -> bool:
    """Return whether a box has finite corners and a positive width and height."""
    return all(map(math.isfinite, box)) and min(box[2:]) > 0


def _reason(box: list[float], size: tuple[int, int], turned: tuple[int, int] | None) -> str:
    """Return what is wrong with a box, "" if nothing; EXIF may explain one that fits ``turned``."""
    wrong = fault(box, *size)
    if wrong and turned and not fault(box, *turned):
        view = f"{turned[0]} x {turned[1]}"
        wrong += f", but inside its other view by EXIF orientation, {view} (see data.exif)"
    return f"box {box} {wrong}" if wrong else ""


def _in_words(error: InputError) -> str:
    """Return a box that is no four numbers, for the list of skipped ones."""
    return f"{error.what}, not {error.expected}"


def _id_shift(annotated: Annotated, split: str, findings: Findings) -> int:
    """Return what to add to annotation ids so that they start at 1.

    COCO evaluators mark "no match" by annotation id 0: a match with box 0 would be lost.
    """
    lowest = min((annotation["id"] for annotation in annotated.annotations), default=1)
    if lowest >= 1:
        return 0
    findings.note("annotation ids shifted to start at 1", f"{split} has id {lowest}")
    return 1 - lowest
