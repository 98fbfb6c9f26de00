"""Making ``resources/clip/{id}``: weights and a card, from the package, a file or a download.

Importing this module costs no torch, because the plan asks it for ids.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

from clclip.core import homes
from clclip.errors import InputError, nearest
from clclip.files import expanded, replacing, write_json

logger = logging.getLogger(__name__)

WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED = ("embedded", "embedded_cls", "embedded_map")  # architectures that ship with the package
_SAMPLES = 64  # places at which a large weights file is read for its id
_SAMPLE_BYTES = 1 << 16
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


def clip_id(clip: dict[str, Any] | None) -> str:
    """Return the id of a CLIP, its folder's name under ``resources/clip``; torch-free.

    Args:
        clip: {"model": None or "embedded" or an open_clip name, "tag": str or None, "file": path or
            None}.

    Raises:
        InputError: if neither tag nor file says which weights, or the file is missing.
    """
    model, tag, file = _parts(clip)
    if model in EMBEDDED and file is None:
        path = _embedded_weights(model)
        return f"{_slug(model)}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    if file is not None:
        return f"{_slug(model)}-{_slug(tag or 'file')}-{_file_digest(_weights_file(file))}"
    return f"{_slug(model)}-{_slug(tag)}"


def fetch_clip(clip: dict[str, Any] | None, out: Path) -> None:
    """Write ``out/clip.safetensors`` and, last, ``out/clip.json``.

    Raises:
        InputError: for an unknown model or tag, a download that fails, or weights that do not fit
            the model.
    """
    from clclip.clip import load

    model_name, tag, file = _parts(clip)
    _check_names(model_name, tag, file)
    load.register_embedded()
    if model_name in EMBEDDED and file is None:
        source, path = "package", _embedded_weights(model_name)
    elif file is not None:
        source, path = "file", _weights_file(file)
    else:
        source, path = f"open_clip {tag}", _download(model_name, tag)
    model = load.build(model_name, tag)
    load.load_weights(model, path)
    card = load.card_of(model, model_name, tag, clip_id(clip), source)
    from safetensors.torch import save_file

    with replacing(out / "clip.safetensors") as temporary:
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, temporary, metadata={"clip": card["id"]})
        card["sha256"] = load.sha256(temporary)
    write_json(out / "clip.json", card, indent=1)
    logger.info("%s: %s weights, %d values", card["id"], source, card["parameters"])


def _parts(clip: dict[str, Any] | None) -> tuple[str, str | None, str | None]:
    """Return model, tag and file of a clip dictionary; no model means the embedded CLIP."""
    clip = clip or {}
    model, tag, file = clip.get("model") or "embedded", clip.get("tag"), clip.get("file")
    if model not in EMBEDDED and tag is None and file is None:
        raise InputError(
            f"{model} without weights", "clip", "a tag (clip.tag) or a local file (clip.file)"
        )
    return model, tag, file


def _slug(text: str | None) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-")


def _embedded_weights(model: str) -> Path:
    path = WEIGHTS / f"{model}.safetensors"
    if not path.is_file():
        raise InputError(f"no weights of {model}", path, "the file `clclip pretrain-clip` writes")
    return path


def _weights_file(file: str | Path) -> Path:
    path = expanded(file)
    if not path.is_file():
        raise InputError(
            f"no such weights file {str(file)!r}",
            "clip.file",
            "an existing .safetensors or .pt file",
        )
    if path.suffix not in _SUFFIXES:
        raise InputError(
            f"weights file {path.name!r}", "clip.file", f"one of {', '.join(_SUFFIXES)}"
        )
    return path


def _file_digest(path: Path) -> str:
    """Return 8 hex digits of the size and of 64 samples: the plan must not read gigabytes.

    Training changes every weight, so two different checkpoints differ in some sample. The stage
    that loads the file stores its full digest.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _SAMPLES * _SAMPLE_BYTES:
            digest.update(file.read())
        else:
            for k in range(_SAMPLES):
                file.seek((size - _SAMPLE_BYTES) * k // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:8]


def _check_names(model: str, tag: str | None, file: str | None) -> None:
    """Refuse names that open_clip does not know, naming the nearest that it does."""
    import open_clip

    if model in EMBEDDED:
        return
    known = open_clip.list_models()
    if model not in known:
        raise InputError(
            f"unknown CLIP {model!r}{nearest(model, known)}",
            "clip.model",
            "a name of open_clip.list_models()",
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag is not None and tag not in tags and file is None:
        raise InputError(
            f"unknown tag {tag!r} of {model}", "clip.tag", f"one of {', '.join(tags) or 'none'}"
        )


def _download(model: str, tag: str | None) -> Path:
    """Return the weights of a tag from open_clip's own cache, downloading them if need be."""
    import open_clip

    config = open_clip.get_pretrained_cfg(model, tag)
    hub = bool(config.get("hf_hub"))
    what = f"weights of {model} {tag}"
    home = homes.hub_home() if hub else homes.plain_home()
    if home is None:
        homes.writable(home, what)
    try:
        place = None if hub else str(home)  # the hub's library finds its own
        return Path(open_clip.download_pretrained(config, cache_dir=place))
    except Exception as error:  # each download library raises its own
        homes.writable(home, what)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            f"weights of {model} {tag} could not be downloaded ({reason})",
            "clip",
            "a network connection, or a local weights file (clip.file)",
        ) from error
