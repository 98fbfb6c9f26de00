"""Where the labels of an image's boxes stand, so that none lies over another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LETTER = 0.62  # mean width of a letter of the page's bold sans serif, in font sizes
ASCENT, DESCENT = 0.8, 0.25  # above and below the base line, in font sizes


@dataclass(frozen=True)
class Label:
    """A text to place beside its box (x, y, w, h); a lower ``rank`` is placed first."""

    text: str
    box: tuple[float, float, float, float]
    rank: float


def placed(
    labels: Sequence[Label], extent: tuple[float, float], font: float
) -> list[tuple[float, float] | None]:
    """Return the base line's start (x, y) of every label, None where no place is free.

    Labels go, by rank, to the first of eight places above, below and inside their box that no label
    before them takes. Labels of a better rank do not depend on later ones: whatever part of the
    ranking a reader hides from its end on, the rest neither overlaps nor moves.

    Args:
        labels: texts and boxes, in pixels of the image.
        extent: width and height of the image.
        font: font size in the same pixels.
    """
    result: list[tuple[float, float] | None] = [None] * len(labels)
    taken: list[tuple[float, float, float, float]] = []
    for index in sorted(range(len(labels)), key=lambda i: (labels[i].rank, i)):
        width = len(labels[index].text) * LETTER * font
        for x, y in _places(labels[index].box, width, extent, font):
            area = (x, y - ASCENT * font, x + width, y + DESCENT * font)
            if not any(_overlap(area, other) for other in taken):
                taken.append(area)
                result[index] = x, y
                break
    return result


def _places(
    box: tuple[float, float, float, float], width: float, extent: tuple[float, float], font: float
) -> Iterator[tuple[float, float]]:
    """Yield the starts of a base line of ``width`` around a box, inside the image, best first."""
    x, y, w, h = box
    gap = DESCENT * font
    rows = (y - gap, y + h + ASCENT * font + 1, y + ASCENT * font + 1, y + h - gap)
    for row in rows:
        base = min(max(row, ASCENT * font), extent[1] - gap)
        for start in (x, x + w - width):
            yield min(max(start, 0.0), max(extent[0] - width, 0.0)), base


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    """Return whether two areas (x0, y0, x1, y1) share more than a border."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
