"""The id of a CLIP, and what it is made of, settled when a run is planned; torch-free."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from clclip.clip.ids import EMBEDDED, embedded_weights
from clclip.clip.own.model_config import Missing
from clclip.clip.own.sources import file_digest, is_own, resolved, slug, weights_file
from clclip.core.artifacts import ClipSource
from clclip.core.digest import digest
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_json

logger = logging.getLogger(__name__)


def clip_id(clip: Mapping[str, Any] | None) -> str:
    """Return the id of a CLIP, its folder's name under ``resources/clip``.

    Args:
        clip: as ``resolve_clip`` takes it.

    Raises:
        InputError: as ``resolve_clip``.
    """
    return str(resolve_clip(clip)["id"])


def resolve_clip(clip: Mapping[str, Any] | None) -> ClipSource:
    """Return a CLIP with its id, as ``fetch_clip`` takes it: content instead of a config's place.

    Args:
        clip: {"model": None or "embedded" or an open_clip name, hub's model or folder, "tag": str
            or None, "file": path or None, "config": path or None}; None is the embedded CLIP.

    Raises:
        InputError: if neither tag nor file says which weights, or a file is missing or wrong.
    """
    given = {key: value for key, value in (clip or {}).items() if value is not None}
    if is_own(given):
        return resolved(given)
    given.setdefault("model", "embedded")
    model, tag, file = given["model"], given.get("tag"), given.get("file")
    if file is not None:
        name = f"{slug(model)}-{slug(tag or 'file')}-{file_digest(weights_file(file))}"
    elif model in EMBEDDED:
        digits = hashlib.sha256(embedded_weights(model).read_bytes()).hexdigest()[:8]
        name = f"{slug(model)}-{digits}"
    elif tag is None:
        expected = "a tag (clip.tag) or a local file (clip.file)"
        raise InputError(f"{model} without weights", "clip", expected)
    else:
        name = f"{slug(model)}-{slug(tag)}"
    return cast(ClipSource, {**given, "id": name})


def settle_clip(clip: Mapping[str, Any], records: Path | None, job: bool = False) -> ClipSource:
    """Return ``resolve_clip(clip)``, or what an earlier plan has recorded of it.

    Args:
        clip: as ``resolve_clip`` takes it, with absolute paths.
        records: folder of such records; None keeps none.
        job: whether a job of a planned run asks: the plan's record then stands, whatever has become
            of files and of the hub's cache. A plan reads a record only where a source is gone.

    Raises:
        InputError: as ``resolve_clip``.
    """
    path = records / f"clip-{digest(dict(clip))}.json" if records else None
    known = _recorded(path)
    if job and known is not None:
        return known
    try:
        settled = resolve_clip(clip)
    except Missing as error:
        if known is None:
            raise
        logger.warning("%s: taken as an earlier plan found it (%s)", error.what, known["id"])
        return known
    from_outside = "file" in settled or "config_text" in settled
    if path is not None and from_outside and settled != known:
        write_json(path, settled)
    return settled


def _recorded(path: Path | None) -> ClipSource | None:
    """Return a record, None if there is none or it is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        recorded = read_json(path)
    except InputError:
        return None
    whole = isinstance(recorded, dict) and {"model", "id"} <= recorded.keys()
    return cast(ClipSource, recorded) if whole else None
