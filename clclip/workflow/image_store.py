"""The feature store that a closed-form task reads, told when a run is planned; torch-free."""

from __future__ import annotations

from typing import Any

from clclip.clip.architecture import native_size
from clclip.clip.ids import feature_id


def image_store(payload: dict[str, Any], clip: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the id and the description of the store of whole images' features of a task.

    Args:
        payload: its task.json; receives the entry ``features``.
        clip: the CLIP, with its id.
    """
    switches = payload["switches"]
    described: dict[str, Any] = {
        "data": payload["data"]["id"],
        "clip": clip["id"],
        "size": payload["training"]["image_size"] or native_size(clip) or 0,
        "dense": "image",
        "taps": [],
        "flip": switches["mirror"] if "mirror" in switches else False,
    }
    store, kept = feature_id(**described), ("size", "dense", "taps", "flip")
    payload["features"] = {"id": store, "cache": True} | {key: described[key] for key in kept}
    return store, described
