"""Making a feature store of whole images (``layout.py``): the one place where a tower is run."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    spread: bool = False,
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
        spread: store the moments of ``moments.py`` instead of image features.

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
    arrays = image_features(clip, paths, size or None, mirror, taps, spread)
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
    clip: Any,
    paths: Sequence[Path],
    size: int | None,
    mirror: bool,
    taps: Sequence[int] = (),
    spread: bool = False,
) -> dict[str, Array]:
    """Return the features of image files.

    Args:
        clip: a ``LoadedClip``.
        paths: N image files.
        size: side of the images in px; None: the tower's own.
        mirror: whether to add those of the mirror images.
        taps: blocks, counted from 1, after which images are pooled, instead of image features.
        spread: the moments of ``moments.py`` instead of image features.

    Returns:
        name of a view (``views_of``) -> float32 (N, d), not normalised.

    Raises:
        InputError: if an image cannot be read, the tower is of no known kind or lacks a block.
    """
    parts: list[dict[str, Array]] = []
    done, start, logged_at = 0, time.monotonic(), 0.0
    for part in feature_batches(clip, paths, size, mirror, taps, spread):
        parts.append(part)
        done += len(next(iter(part.values())))
        seconds = time.monotonic() - start
        if seconds - logged_at > _LOG_SECONDS or done == len(paths):
            logged_at = seconds
            logger.info("features of %d/%d images, %.0f s", done, len(paths), seconds)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def feature_batches(
    clip: Any,
    paths: Sequence[Path],
    size: int | None,
    mirror: bool,
    taps: Sequence[int] = (),
    spread: bool = False,
) -> Iterator[dict[str, Array]]:
    """Yield the features of ``image_features``, ``BATCH`` images at a time.

    The next images are read and prepared in a thread while the tower looks at these.
    """
    import torch

    from clclip.classification.features.moments import moments
    from clclip.classification.pixels import Pixels, chunks
    from clclip.classification.seca.adapters import VisualTower

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tower = VisualTower(clip.model.to(device), size)
    if not all(1 <= tap <= len(tower.blocks) for tap in taps):
        expected = f"blocks from 1 to {len(tower.blocks)}"
        raise InputError(f"blocks {list(taps)}", "switches.blocks", expected)
    pixels = Pixels(paths, clip, tower.image_size, device)
    pixels.keep = False  # each is used once
    names = views_of(mirror, taps)

    def features(batch: Any) -> list[Any]:
        if taps:
            return tower.pooled_after(tower.stem(batch), taps)
        views = [batch, batch.flip(-1)] if mirror else [batch]
        if spread:
            return [moments(tower, view) for view in views]
        return [tower.feature(tower.stem(view), None) for view in views]

    ranges = list(chunks(len(pixels), BATCH))
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(pixels.__getitem__, rows) for rows in ranges[:1]]
        for number in range(1, len(ranges) + 1):
            batch = ahead.pop().result()
            ahead += [reader.submit(pixels.__getitem__, r) for r in ranges[number : number + 1]]
            with torch.no_grad():
                values = features(batch)
            yield {n: v.float().cpu().numpy() for n, v in zip(names, values, strict=True)}


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
