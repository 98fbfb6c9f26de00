"""Small helpers to write SVG that inherits the page's colours and escapes every name."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; ``class_`` and ``stroke_width`` become ``class`` and ``stroke-width``.

    Children that are not Markup are escaped. Numbers are written with at most two decimals.
    """
    written = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), plain(value))
        for key, value in attributes.items()
        if value is not None
    ]
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(written), inner)


def plain(value: object) -> object:
    """Shorten floats; leave the rest."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def path(points: Sequence[tuple[float, float]]) -> str:
    """Return the ``d`` of a line through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def marker(shape: int, x: float, y: float, colour: str) -> Markup:
    """Return one of five marker shapes, so that colour is never the only difference."""
    style = {"fill": colour, "stroke": "var(--paper)", "stroke_width": 1.5}
    size = 5.0
    if shape == 0:
        return tag("circle", cx=x, cy=y, r=size, **style)
    if shape == 1:
        return tag("rect", x=x - 4.4, y=y - 4.4, width=8.8, height=8.8, **style)
    corners = {
        2: [(0, -6), (5.6, 4.4), (-5.6, 4.4)],
        3: [(0, -6.4), (6.4, 0), (0, 6.4), (-6.4, 0)],
        4: [(0, 6), (5.6, -4.4), (-5.6, -4.4)],
    }[2 + (shape - 2) % 3]
    return tag("path", d=path([(x + dx, y + dy) for dx, dy in corners]) + "Z", **style)


def nice_bounds(values: Sequence[float]) -> tuple[float, float, float]:
    """Return (low, high, step) of a percent axis that holds the values with some air."""
    if not values:
        return 0.0, 100.0, 25.0
    low, high = min(values), max(values)
    for step in (5.0, 10.0, 20.0, 25.0):
        bottom = max(0.0, step * ((low - 0.15 * step) // step))
        top = min(100.0, -step * ((-high - 0.15 * step) // step))
        if (top - bottom) / step <= 5:
            return bottom, max(top, bottom + step), step
    return 0.0, 100.0, 25.0
