"""Which settings must match before two results may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMPARED = ("kind", "groups", "metric", "images", "image_rule", "fractions")
"""Keys of a summary that must agree."""


def training_images(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return which images tasks were shown: "image_rule", and "fractions" where there are any.

    Args:
        data: of a task, or a summary.
    """
    rule = {"image_rule": data.get("image_rule") or "overlap"}
    return rule | ({"fractions": data["fractions"]} if data.get("fractions") else {})


def comparison_key(summary: Mapping[str, Any]) -> list[Any]:
    """Return the values of ``COMPARED``; summaries of older versions lack some."""
    return [summary.get(key) for key in COMPARED]


def title_suffix(summary: Mapping[str, Any]) -> str:
    """Return what a title must say beside data and protocol, e.g. ", group images"; "" if nothing.

    Args:
        summary: of a seed or of an experiment.
    """
    text = ", group images" if summary.get("images") == "group" else ""
    rule, fractions = summary.get("image_rule") or "overlap", summary.get("fractions")
    if rule != "overlap":
        text += f", image rule {rule}"
    if fractions:
        text += f" ({' + '.join(f'{share:.3g}' for share in fractions)})"
    return text
