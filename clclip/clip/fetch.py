"""Making ``resources/clip/{id}``: weights, card and, of a CLIP of one's own, its model config."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clclip.clip.ids import EMBEDDED, embedded_weights
from clclip.clip.own import hub
from clclip.clip.own.model_config import NAME
from clclip.clip.own.settle import resolve_clip
from clclip.clip.own.sources import weights_file
from clclip.core import homes
from clclip.core.artifacts import ClipSource, read_clip
from clclip.core.digest import file_sha256
from clclip.core.errors import InputError, nearest
from clclip.core.files import replacing, write_bytes, write_json

logger = logging.getLogger(__name__)

GIVEN = "model_config.json"  # the config as it was given, byte for byte
_KEYS = ("model", "tag", "file", "config", "config_text", "revision", "tokenizer", "id", "folder")


def fetch_clip(clip: Mapping[str, Any] | None, out: Path) -> None:
    """Write ``out/clip.safetensors`` and, last, ``out/clip.json``.

    Of a CLIP of one's own the model config is copied beside them, and what its tokenizer needs: the
    folder is then one that open_clip reads as ``local-dir:``.

    Args:
        clip: as ``resolve_clip`` takes it, or as it returns it; with ``folder``, what an earlier
            call wrote there is copied (the tower that lies in a model).
        out: folder.

    Raises:
        InputError: for an unknown model or tag, a download that fails, or weights that do not fit
            the model.
    """
    for key in clip or {}:
        if key not in _KEYS:
            raise InputError(f"unknown key {key!r}{nearest(key, _KEYS)}", "--clip", "clip's keys")
    if clip and "folder" in clip:
        return _copy(Path(clip["folder"]), str(clip["id"]), out)
    given = resolve_clip(clip)
    if "config_text" in given:
        _fetch_own(given, out)
    else:
        _fetch_listed(given, out)


def _copy(folder: Path, clip_id: str, out: Path) -> None:
    """Copy what ``fetch_clip`` wrote elsewhere; the card last."""
    card = read_clip(folder)
    weights = folder / "clip.safetensors"
    if card["id"] != clip_id or not weights.is_file() or file_sha256(weights) != card["sha256"]:
        raise InputError("not the whole CLIP", folder, f"{clip_id} as fetch-clip wrote it")
    for part in sorted(folder.iterdir()):
        if part.is_file() and part.name != "clip.json":
            write_bytes(out / part.name, part.read_bytes())
    write_json(out / "clip.json", card, indent=1)


def _fetch_listed(clip: ClipSource, out: Path) -> None:
    """Fetch a CLIP whose architecture open_clip or the package knows by name."""
    from clclip.clip import load

    name, tag, file = clip["model"], clip.get("tag"), clip.get("file")
    load.register_embedded()
    if name in EMBEDDED and file is None:
        source, path = "package", embedded_weights(name)
    elif file is not None:
        source, path = "file", weights_file(file)
    else:
        source, path = f"open_clip {tag}", _download(name, str(tag))
    model = load.build(name, tag)
    load.load_weights(model, path)
    _write(model, load.card_of(model, name, tag, clip["id"], source), out)


def _fetch_own(clip: ClipSource, out: Path) -> None:
    """Fetch a CLIP that brings its own model config."""
    from clclip.clip import load
    from clclip.clip.own.folder import write_folder

    name = clip["model"]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        write_folder(clip, folder)
        if name.startswith(hub.PREFIX):
            revision = clip["revision"]
            path = hub.weights_file(name.removeprefix(hub.PREFIX), revision)
            source = f"revision {revision}"
        else:
            path, source = weights_file(clip["file"]), "file"
        model = load.build_own(folder, clip.get("config", name))
        load.load_weights(model, path)
        card = load.card_of(model, name, None, clip["id"], source)
        card["config_sha256"] = file_sha256(folder / NAME)
        for part in sorted(folder.iterdir()):
            write_bytes(out / part.name, part.read_bytes())
        write_bytes(out / GIVEN, clip["config_text"].encode())
        _write(model, card, out)


def _write(model: Any, card: dict[str, Any], out: Path) -> None:
    """Write weights and, last, the card."""
    from safetensors.torch import save_file

    with replacing(out / "clip.safetensors") as temporary:
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, temporary, metadata={"clip": card["id"]})
        card["sha256"] = file_sha256(temporary)
    write_json(out / "clip.json", card, indent=1)
    logger.info("%s: %s weights, %d values", card["id"], card["source"], card["parameters"])


def _download(model: str, tag: str) -> Path:
    """Return the weights of a tag from open_clip's own cache, downloading them if need be."""
    import open_clip

    if not (config := open_clip.get_pretrained_cfg(model, tag)):
        known = [" ".join(pair) for pair in open_clip.list_pretrained()]
        what = f"open_clip has no weights {tag!r} of {model!r}{nearest(f'{model} {tag}', known)}"
        raise InputError(what, "clip", "a model and a tag of open_clip.list_pretrained()")
    of_hub = bool(config.get("hf_hub"))
    what = f"weights of {model} {tag}"
    home = homes.hub_home() if of_hub else homes.plain_home()
    if home is None:
        homes.writable(home, what)
    try:
        place = None if of_hub else str(home)  # the hub's library finds its own
        return Path(open_clip.download_pretrained(config, cache_dir=place))
    except Exception as error:  # each download library raises its own
        homes.writable(home, what)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            f"weights of {model} {tag} could not be downloaded ({reason})",
            "clip",
            "a network connection, or a local weights file (clip.file)",
        ) from error
