"""Boxes given as fractions of their image instead of pixels: they would train to nothing."""

from __future__ import annotations

import math

from clclip.core.errors import InputError
from clclip.data.checks.findings import Findings
from clclip.data.readers.annotated import Annotated

_SHARE = 0.01  # from this share on, boxes within one pixel are no chance
_OVER = 0.05  # fractions of tools may stick out of 0..1 a little
_EXPECTED = "boxes in pixels, not as fractions of the image"


def check_scale(annotated: Annotated, split: str, findings: Findings) -> None:
    """Refuse a split all of whose boxes lie within 1 x 1 px; warn where a share of them does.

    Boxes that are bad in any image are not counted, nor those of images of a pixel or two.

    Raises:
        InputError: if every box does.
    """
    tiny = {i["id"] for i in annotated.images if max(i["width"] or 9, i["height"] or 9) <= 2}
    counted = 0
    small = []
    for n, annotation in enumerate(annotated.annotations):
        box = annotation["bbox"]
        if not all(map(math.isfinite, box)) or annotation["image_id"] in tiny:
            continue
        if min(box[2:]) <= 0:
            continue
        counted += 1
        if all(-_OVER <= value <= 1 + _OVER for value in _as_written(box, annotated.corners)):
            small.append(n)
    if not small:
        return
    where = annotated.where_box(small[0])
    if len(small) == counted:
        every = "the one box" if counted == 1 else f"all {counted} boxes"
        raise InputError(f"{every} of {split} within 1 x 1 px", where, _EXPECTED)
    if len(small) >= _SHARE * counted:
        findings.tell(
            f"{len(small)} of {counted} {split} boxes lie within 1 x 1 px, as fractions of the "
            f"image would: first at {where}"
        )


def _as_written(box: list[float], corners: bool) -> list[float]:
    """Return the numbers that stand in the file, up to their order."""
    x, y, w, h = box
    return [x + 1, y + 1, x + w, y + h] if corners else box
