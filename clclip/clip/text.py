"""Text embeddings of class names: open_clip's prompt ensemble, written once for every stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clclip.clip.prompts import BACKGROUND_PROMPTS, TEMPLATES, clean_names
from clclip.core.errors import InputError
from clclip.core.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from clclip.clip.load import LoadedClip


def text_embeddings(
    clip: LoadedClip, names: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Tensor:
    """Return the unit-norm mean of each name's prompts, float32 (K, d)."""
    import open_clip
    from torch.nn import functional

    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"got {names!r:.60}", "--names", "a list of class names, not empty")
    columns = open_clip.build_zero_shot_classifier(
        clip.model, clip.tokenizer, clean_names(names), list(templates)
    )
    return functional.normalize(columns.T.float(), dim=-1)


def embed_text(clip_dir: Path, names: list[str], out: Path) -> None:
    """Write the embeddings of ``names`` to ``out``: {"text": (K, d)}, metadata {"names", "clip"}.

    Beside them stands "background" (N, d), the fixed prompts that the softmax gate is held against.

    Raises:
        InputError: if the CLIP cannot be loaded.
    """
    from safetensors.torch import save_file

    from clclip.clip.load import load_clip

    clip = load_clip(clip_dir)
    rows = text_embeddings(clip, names)
    background = text_embeddings(clip, BACKGROUND_PROMPTS)
    with replacing(out) as temporary:
        save_file(
            {"text": rows.contiguous(), "background": background.contiguous()},
            temporary,
            metadata={"names": json.dumps(list(names)), "clip": clip.name},
        )


def read_text(path: Path) -> tuple[list[str], Tensor]:
    """Read what ``embed_text`` wrote.

    Returns:
        The names and their unit rows, float32 (K, d).

    Raises:
        InputError: if the file is missing or is something else.
    """
    from safetensors import SafetensorError, safe_open

    expected = "a file that `clclip embed-text` wrote"
    if not path.is_file():
        raise InputError("no such file", path, expected)
    try:
        with safe_open(path, framework="pt") as file:
            names = json.loads((file.metadata() or {})["names"])
            rows = file.get_tensor("text")
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"not text embeddings ({error})", path, expected) from error
    if len(names) != len(rows):
        raise InputError(f"{len(names)} names for {len(rows)} rows", path, expected)
    # cut, scaled, rounded to integers or not finite: none of these has unit rows
    if rows.ndim != 2 or not ((rows.double().norm(dim=1) - 1).abs() < 1e-3).all():
        raise InputError("rows that are no unit vectors", path, expected)
    return names, rows


def read_background(path: Path) -> Tensor:
    """Return the unit rows (N, d) of the fixed background prompts in a file of ``embed_text``."""
    from safetensors import safe_open

    read_text(path)  # refuses anything else
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("background")
