"""Frozen features of whole images, computed once per data set and tower, for closed-form tasks.

A store is a folder of float32 arrays, one row an image, and a marker ``done.json`` that is written
last: ``image`` (N, d), the tower's own image features, not normalised; ``mirrored`` (N, d) of the
mirror images where asked for; ``text`` (C, d), unit embeddings of the data set's class names in one
sentence. Reading it takes neither torch nor open_clip, so a task starts within half a second.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError
from clclip.core.files import write_json

Array = np.ndarray

logger = logging.getLogger(__name__)

FORMAT = 1
MARKER = "done.json"
TEMPLATE = "a good photo of a {}."
BATCH = 64  # images of a pass; it does not depend on the data, so values do not either
_LOG_SECONDS = 5.0


def build_image_features(
    index_dir: Path, clip_dir: Path, split: str, out: Path, size: int, mirror: bool = False
) -> None:
    """Compute the features of all images of a split.

    Args:
        index_dir: folder of an index.json.
        clip_dir: folder that ``fetch_clip`` wrote.
        split: "train" or "test".
        out: the store; a complete one is left as it is.
        size: side of the images in px; 0: the tower's own.
        mirror: store the features of mirror images too.

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
    arrays = image_features(clip, paths, size or None, mirror)
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
            "images": [image["id"] for image in images],
            "names": names,
            "shapes": {name: list(array.shape) for name, array in arrays.items()},
        }
        write_json(temporary / MARKER, marker)
        settle(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def image_features(
    clip: Any, paths: Sequence[Path], size: int | None, mirror: bool
) -> dict[str, Array]:
    """Return the features of image files.

    Args:
        clip: a ``LoadedClip``.
        paths: N image files.
        size: side of the images in px; None: the tower's own.
        mirror: whether to add those of the mirror images.

    Returns:
        {"image": (N, d) float32, "mirrored": (N, d) if asked for}, not normalised.

    Raises:
        InputError: if an image cannot be read or the tower is of no known kind.
    """
    import torch

    from clclip.classification.pixels import Pixels, chunks
    from clclip.classification.seca.adapters import VisualTower

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tower = VisualTower(clip.model.to(device), size)
    pixels = Pixels(paths, clip, tower.image_size, device)
    pixels.keep = False  # each is used once
    views = ("image", "mirrored") if mirror else ("image",)
    found: dict[str, list[Array]] = {name: [] for name in views}
    start, told = time.monotonic(), 0.0
    with torch.no_grad():
        for rows in chunks(len(pixels), BATCH):
            batch = pixels[rows]
            for name in views:
                shown = batch.flip(-1) if name == "mirrored" else batch
                found[name].append(tower.feature(tower.stem(shown), None).float().cpu().numpy())
            seconds = time.monotonic() - start
            if seconds - told > _LOG_SECONDS or rows.stop == len(pixels):
                told = seconds
                logger.info("features of %d/%d images, %.0f s", rows.stop, len(pixels), seconds)
    return {name: np.concatenate(parts) for name, parts in found.items()}


class ImageFeatures:
    """A finished store, open for reading.

    Attributes:
        width: d of the features.

    Raises:
        InputError: if the store is missing, unfinished or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / MARKER).is_file():
            raise InputError("no finished feature store", folder, "what `clclip features` writes")
        marker = read_stage_file(folder / MARKER, "image features")
        if marker["format"] != FORMAT:
            what = f"store format {marker['format']}"
            raise InputError(what, folder, f"format {FORMAT}; build it anew")
        self._row = {image: row for row, image in enumerate(marker["images"])}
        self._name = {name: row for row, name in enumerate(marker["names"])}
        self._shapes: dict[str, list[int]] = marker["shapes"]
        self._clip = folder.parents[2] / "clip" / marker["clip"]
        views = ("image", "mirrored") if marker["mirror"] else ("image",)
        self._views = [self._array(view) for view in views]
        self.width = int(self._views[0].shape[1])

    def _array(self, name: str) -> Array:
        """Map an array into memory; its size is checked."""
        path = self.folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            what = f"damaged features ({error})"
            raise InputError(what, path, "the file as it was built") from None
        if list(array.shape) != self._shapes.get(name) or array.dtype != np.float32:
            what = f"features of shape {array.shape}"
            raise InputError(what, path, f"float32 {self._shapes.get(name)}")
        return array

    def rows(self, image_ids: Sequence[int]) -> Array:
        """Return float32 features (views, N, d) of images, in any order.

        Raises:
            InputError: if an image is not in the store.
        """
        missing = [image for image in image_ids if image not in self._row]
        if missing:
            what = f"no features of image {missing[0]}"
            raise InputError(what, self.folder, "an image of the data set")
        rows = [self._row[image] for image in image_ids]
        return np.stack([view[rows] for view in self._views])

    def text(self, words: Sequence[str]) -> Array:
        """Return unit text embeddings (K, d): stored, or made now where a text is no class name."""
        table = self._array("text")
        if all(word in self._name for word in words):
            return table[[self._name[word] for word in words]]
        from clclip.classification.seca.prompts import template_text
        from clclip.clip.load import load_clip

        clip = load_clip(self._clip)
        return template_text(clip.model, clip.tokenizer, list(words), TEMPLATE).cpu().numpy()
