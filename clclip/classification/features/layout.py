"""How a feature store of whole images is laid out, and which texts tasks read; torch-free.

A store is a folder of float32 arrays, one row an image, and a marker ``done.json`` that is written
last. What an image shows as are its views: ``image`` (N, d), the tower's own image features, not
normalised, with ``mirrored`` (N, d) of the mirror images where asked for; in a store of moments
both are (N, 2 d), as ``moments.py`` says; or, in a store of taps,
``tap3`` and so on (N, width), what pooling gives after a block. ``text`` (C, d) are unit embeddings
of the data set's class names in one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clclip.core.artifacts import Task
from clclip.core.digest import digest
from clclip.core.task import current_classes, text_names

FORMAT = 1
IMAGE, MOMENTS = "image", "moments"  # CLIP's feature of an image, or that and its tokens' spread
WHOLE = (IMAGE, MOMENTS)  # values of ``dense`` that are vectors of whole images
MARKER = "done.json"
TEMPLATE = "a good photo of a {}."


def views_of(mirror: bool, taps: Sequence[int]) -> list[str]:
    """Return the names of the arrays that show an image."""
    if taps:
        return [f"tap{tap}" for tap in taps]
    return ["image", "mirrored"] if mirror else ["image"]


def said(text: str) -> str:
    """Return a text as it stands in a sentence."""
    return text.replace("_", " ")


def own_sentences(task: Task) -> tuple[str, list[str]]:
    """Return the sentence of a task, and those texts of its new classes that no store holds.

    A store holds the data's class names in ``TEMPLATE``; a task may call classes otherwise, or ask
    for another sentence.
    """
    template = task["switches"].get("template", TEMPLATE)
    classes = current_classes(task)
    texts = text_names(task)[-len(classes) :]
    if template != TEMPLATE:
        return template, texts
    pairs = zip(classes, texts, strict=True)
    return template, [text for name, text in pairs if said(text) != said(name)]


def sentences_id(clip: str, names: Sequence[str], template: str) -> str:
    """Return the id of the embeddings of ``names`` in a sentence."""
    return f"{clip}-{digest([clip, list(names), template], 8)}"


def sentences_file(task: Task, resources: Path) -> Path:
    """Return the file of the texts that ``own_sentences`` names."""
    template, names = own_sentences(task)
    name = sentences_id(task["clip"]["id"], names, template)
    return resources / "text" / f"{name}.safetensors"
