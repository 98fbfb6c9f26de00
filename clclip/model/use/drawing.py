"""Boxes drawn on images, and objects cut out of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from clclip.core.errors import InputError
from clclip.model.use.answers import Detections

# Okabe and Ito: distinguishable with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
READABLE = 400  # px; a smaller image is enlarged before labels are written on it


def drawn(picture: Image.Image, detections: Detections, trained: int | None = None) -> Image.Image:
    """Return the image with boxes and labels, enlarged if it is too small to read them.

    Args:
        picture: the image.
        detections: what is drawn on it.
        trained: number of trained classes; labels from there on are marked as guesses by a "?".
    """
    zoom = max(1, round(READABLE / max(picture.size)))
    size = (picture.width * zoom, picture.height * zoom)
    canvas = picture.resize(size) if zoom > 1 else picture.copy()
    pen = ImageDraw.Draw(canvas)
    rows = zip(
        detections.boxes.tolist(),
        detections.labels.tolist(),
        detections.names,
        detections.scores,
        strict=True,
    )
    for box, label, name, score in rows:
        colour = COLOURS[label % len(COLOURS)]
        x0, y0, x1, y1 = (v * zoom for v in box)
        pen.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=2)
        mark = "?" if trained is not None and label >= trained else ""
        text = f"{name}{mark} {score:.2f}"
        left, top, right, bottom = pen.textbbox((x0 + 2, max(0, y0 - 12)), text)
        pen.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=colour)
        pen.text((x0 + 2, max(0, y0 - 12)), text, fill="white")
    return canvas


def cut_out(picture: Image.Image, detections: Detections) -> list[Image.Image]:
    """Return each object as an image of its own, at least one pixel a side."""
    crops = []
    for x0, y0, x1, y1 in detections.boxes.tolist():
        left, top = min(int(x0), picture.width - 1), min(int(y0), picture.height - 1)
        right, bottom = max(left + 1, round(x1)), max(top + 1, round(y1))
        crops.append(picture.crop((left, top, right, bottom)))
    return crops


def folder_name(name: str) -> str:
    """Return a class name as the name of a folder."""
    return re.sub(r'[\\/:*?"<>|\s]+', "_", name).strip("._") or "class"


def drawing_names(files: Sequence[Path], out: Path) -> list[str]:
    """Return what each image's drawing is called: two of one name get a number each.

    Raises:
        InputError: if a drawing would take the place of an image that was given.
    """
    names: dict[str, None] = {}
    given = {path.resolve() for path in files}
    for path in files:
        name, n = f"{path.stem}.png", 1
        while name in names:
            n += 1
            name = f"{path.stem}-{n}.png"
        if (out / name).resolve() in given:
            expected = "a folder other than that of the images"
            raise InputError(f"the drawing would replace the image {out / name}", "--out", expected)
        names[name] = None
    return list(names)
