"""Prompt templates, and how class names are cleaned before they are put into one; torch-free."""

from __future__ import annotations

from collections.abc import Iterable

# A short ensemble that suits photographs and drawings alike, taken for every tower.
TEMPLATES: tuple[str, ...] = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "a close-up of a {}.",
    "a small {}.",
    "there is a {} in the scene.",
    "{}",
)
# What surrounds objects: the fixed vocabulary of the softmax gate and of score fusion.
# It names no class of a task.
BACKGROUND_PROMPTS: tuple[str, ...] = ("background", "empty background", "plain texture", "nothing")


def clean_name(name: str) -> str:
    """Return ``name`` as it is put into a prompt: underscores and slashes become words.

    >>> clean_name("dining_table")
    'dining table'
    """
    return " ".join(name.replace("_", " ").replace("/", " or ").split())


def clean_names(names: Iterable[str]) -> list[str]:
    """Return the cleaned ``names`` in order."""
    return [clean_name(name) for name in names]
