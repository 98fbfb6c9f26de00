"""A folder that open_clip reads as ``local-dir:``: config, tokenizer, and later the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from clclip.clip.own.model_config import NAME, Missing, parsed, tokenizer_name
from clclip.clip.own.sources import OWN, tokenizer_files
from clclip.core.artifacts import ClipSource
from clclip.core.errors import InputError
from clclip.core.files import write_json

TEXT_CONFIG = "config.json"  # of a text tower of the hub, as transformers names it


def write_folder(clip: ClipSource, folder: Path) -> None:
    """Write all of a CLIP of one's own but its weights.

    Args:
        clip: as ``sources.resolved`` returns it.
        folder: receives the config in the hub's form and what the tokenizer needs.

    Raises:
        InputError: if the tokenizer or the text tower's config cannot be had.
    """
    config = parsed(
        clip["config_text"], clip.get("config", clip["model"]), listed=clip["model"] == OWN
    )
    write_json(folder / NAME, config, indent=1)
    text = config["model_cfg"]["text_cfg"]
    if clip.get("tokenizer"):
        for path in _present(Path(clip["tokenizer"])):
            shutil.copy(path, folder / path.name)
    elif name := tokenizer_name(config):
        _save("AutoTokenizer", name, folder)
    if (name := text.get("hf_model_name")) and not (folder / TEXT_CONFIG).is_file():
        _save("AutoConfig", name, folder)


def _present(folder: Path) -> list[Path]:
    """Return the tokenizer's files of a folder that was read when the run was planned."""
    files = tokenizer_files(folder) if folder.is_dir() else []
    if not files:
        expected = "the tokenizer's files beside the config, such as tokenizer.json"
        raise Missing("no tokenizer", folder, expected)
    return files


def _save(cls: str, name: str, folder: Path) -> None:
    """Save what the hub knows under ``name`` by a class of transformers, ``cls``."""
    expected = "the package transformers, and the network or the hub's cache"
    try:
        import transformers

        getattr(transformers, cls).from_pretrained(name).save_pretrained(folder)
    except Exception as error:  # the libraries below raise their own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        what = "tokenizer" if cls == "AutoTokenizer" else "text tower"
        raise InputError(f"the {what} {name} cannot be had ({reason})", "clip", expected) from None
