"""Making a feature store of whole images (``layout.py``): the one place where a tower is run."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clclip.classification.features.layout import FORMAT, MARKER, TEMPLATE, views_of
from clclip.core.errors import InputError
from clclip.core.files import replacing, write_json

Array = np.ndarray

logger = logging.getLogger(__name__)

BATCH = 64  # images of a pass; it does not depend on the data, so values do not either
_LOG_SECONDS = 5.0


def build_image_features(
    index_dir: Path,
    clip_dir: Path,
    split: str,
    out: Path,
    size: int,
    mirror: bool = False,
    taps: Sequence[int] = (),
) -> None:
    """Compute the features of all images of a split.

    Args:
        index_dir: folder of an index.json.
        clip_dir: folder that ``fetch_clip`` wrote.
        split: "train" or "test".
        out: the store; a complete one is left as it is.
        size: side of the images in px; 0: the tower's own.
        mirror: store the features of mirror images too.
        taps: blocks, counted from 1, after which images are pooled, instead of image features.

    Raises:
        InputError: for bad input of any kind.
    """
    if (out / MARKER).is_file():
        logger.info("%s is complete", out)
        return
    from clclip.classification.seca.prompts import template_text
    from clclip.clip.features import settle, split_images
    from clclip.clip.load import load_clip
    from clclip.data.index import read_index

    root, images = split_images(index_dir, split)
    names = read_index(index_dir)["classes"]
    clip = load_clip(clip_dir)
    paths = [root / image["file_name"] for image in images]
    arrays = image_features(clip, paths, size or None, mirror, taps)
    arrays["text"] = template_text(clip.model, clip.tokenizer, names, TEMPLATE).cpu().numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", np.asarray(array, dtype=np.float32))
        marker = {
            "format": FORMAT,
            "clip": clip.name,
            "size": size,
            "mirror": mirror,
            "taps": list(taps),
            "images": [image["id"] for image in images],
            "names": names,
            "shapes": {name: list(array.shape) for name, array in arrays.items()},
        }
        write_json(temporary / MARKER, marker)
        settle(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def image_features(
    clip: Any, paths: Sequence[Path], size: int | None, mirror: bool, taps: Sequence[int] = ()
) -> dict[str, Array]:
    """Return the features of image files.

    Args:
        clip: a ``LoadedClip``.
        paths: N image files.
        size: side of the images in px; None: the tower's own.
        mirror: whether to add those of the mirror images.
        taps: blocks, counted from 1, after which images are pooled, instead of image features.

    Returns:
        name of a view (``views_of``) -> float32 (N, d), not normalised.

    Raises:
        InputError: if an image cannot be read, the tower is of no known kind or lacks a block.
    """
    import torch

    from clclip.classification.pixels import Pixels, chunks
    from clclip.classification.seca.adapters import VisualTower

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tower = VisualTower(clip.model.to(device), size)
    if not all(1 <= tap <= len(tower.blocks) for tap in taps):
        expected = f"blocks from 1 to {len(tower.blocks)}"
        raise InputError(f"blocks {list(taps)}", "switches.blocks", expected)
    pixels = Pixels(paths, clip, tower.image_size, device)
    pixels.keep = False  # each is used once
    features: dict[str, list[Array]] = {name: [] for name in views_of(mirror, taps)}
    start, logged_at = time.monotonic(), 0.0
    with torch.no_grad():
        for rows in chunks(len(pixels), BATCH):
            batch = pixels[rows]
            if taps:
                views = dict(
                    zip(features, tower.pooled_after(tower.stem(batch), taps), strict=True)
                )
            else:
                shown = {"image": batch, "mirrored": batch.flip(-1)}
                views = {name: tower.feature(tower.stem(shown[name]), None) for name in features}
            for name, value in views.items():
                features[name].append(value.float().cpu().numpy())
            seconds = time.monotonic() - start
            if seconds - logged_at > _LOG_SECONDS or rows.stop == len(pixels):
                logged_at = seconds
                logger.info("features of %d/%d images, %.0f s", rows.stop, len(pixels), seconds)
    return {name: np.concatenate(parts) for name, parts in features.items()}


def embed_sentences(clip_dir: Path, names: Sequence[str], template: str, out: Path) -> None:
    """Write unit embeddings of texts in one sentence to ``out``: {"text": (K, d)}.

    Args:
        clip_dir: folder that ``fetch_clip`` wrote.
        names: the texts, not empty.
        template: sentence with one {}.
        out: safetensors file.

    Raises:
        InputError: if the CLIP cannot be loaded, or the sentence has no place for a text.
    """
    from safetensors.numpy import save_file

    from clclip.classification.seca.prompts import template_text
    from clclip.clip.load import load_clip

    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"got {names!r:.60}", "--names", "a list of class names, not empty")
    clip = load_clip(clip_dir)
    rows = template_text(clip.model, clip.tokenizer, list(names), template).cpu().numpy()
    with replacing(out) as temporary:
        save_file({"text": np.ascontiguousarray(rows, dtype=np.float32)}, temporary)
