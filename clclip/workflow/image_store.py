"""Which image features and texts a closed-form task reads, decided by the plan; torch-free."""

from __future__ import annotations

from typing import Any

from clclip.classification.features.layout import (
    IMAGE,
    MOMENTS,
    own_sentences,
    sentences_id,
)
from clclip.classification.kind import CLASSIFICATION
from clclip.clip.architecture import blocks, native_size
from clclip.clip.ids import feature_id
from clclip.core.artifacts import (
    ClipSource,
    Task,
)
from clclip.core.errors import InputError


def image_store(payload: Task, clip: ClipSource, where: object) -> tuple[str, dict[str, Any]]:
    """Return the id and the description of the store of whole images' features of a task.

    Args:
        payload: its task.json; receives the entry ``features``.
        clip: the CLIP, with its id.
        where: its experiment file, for a message.

    Raises:
        InputError: if the task asks for a block that the tower has not.
    """
    switches, place = payload["switches"], f"{where}: switches.blocks"
    spread = switches["spread"] if "spread" in switches else False
    described: dict[str, Any] = {
        "data": payload["data"]["id"],
        "clip": clip["id"],
        "size": payload["training"]["image_size"] or native_size(clip) or 0,
        "dense": MOMENTS if spread else IMAGE,
        "taps": _taps(switches["blocks"], blocks(clip), place) if "blocks" in switches else [],
        "flip": switches["mirror"] if "mirror" in switches else False,
    }
    store, keys = feature_id(**described), ("size", "dense", "taps", "flip")
    payload["features"] = {"id": store, "cache": True} | {key: described[key] for key in keys}
    return store, described


def _taps(given: list[int] | None, depth: int, where: str) -> list[int]:
    """Return the blocks, from 1, after which images are pooled; None: VIS's 6, 8, 10, 12 of 12."""
    if given is None:
        return sorted({round(depth * number / 12) for number in (6, 8, 10, 12)})
    taps = sorted(set(given))
    if not taps or taps[0] < 1 or taps[-1] > depth:
        raise InputError(f"blocks {given}", where, f"numbers 1 to {depth}")
    return taps


def own_texts(payload: Task) -> tuple[str | None, dict[str, Any]]:
    """Return the id and the description of texts that a task's feature store does not hold."""
    method = CLASSIFICATION.methods[payload["method"]]
    template, names = own_sentences(payload)
    clip = payload["clip"]["id"]
    described = {"clip": clip, "names": names, "template": template}
    if not names or not method.given(payload["switches"]).reads_text:
        return None, described
    return sentences_id(clip, names, template), described
