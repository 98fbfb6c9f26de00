"""Making ``resources/clip/{id}``: weights and a card, from the package, a file or a download."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from clclip.clip.ids import EMBEDDED, clip_id, clip_parts, embedded_weights, weights_file
from clclip.core.digest import file_sha256
from clclip.core.errors import InputError, nearest
from clclip.core.files import replacing, write_json

logger = logging.getLogger(__name__)


def fetch_clip(clip: dict[str, Any] | None, out: Path) -> None:
    """Write ``out/clip.safetensors`` and, last, ``out/clip.json``.

    Raises:
        InputError: for an unknown model or tag, a download that fails, or weights that do not fit
            the model.
    """
    from clclip.clip import load

    model_name, tag, file = clip_parts(clip)
    _check_names(model_name, tag, file)
    load.register_embedded()
    if model_name in EMBEDDED and file is None:
        source, path = "package", embedded_weights(model_name)
    elif file is not None:
        source, path = "file", weights_file(file)
    else:
        source, path = f"open_clip {tag}", _download(model_name, tag)
    model = load.build(model_name, tag)
    load.load_weights(model, path)
    card = load.card_of(model, model_name, tag, clip_id(clip), source)
    from safetensors.torch import save_file

    with replacing(out / "clip.safetensors") as temporary:
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, temporary, metadata={"clip": card["id"]})
        card["sha256"] = file_sha256(temporary)
    write_json(out / "clip.json", card, indent=1)
    logger.info("%s: %s weights, %d values", card["id"], source, card["parameters"])


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
    try:
        return Path(open_clip.download_pretrained(config))
    except Exception as error:  # each download library raises its own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            f"weights of {model} {tag} could not be downloaded ({reason})",
            "clip",
            "a network connection, or a local weights file (clip.file)",
        ) from error
