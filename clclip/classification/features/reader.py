"""Reading what ``builder.py`` made; neither torch nor a tower, so a task starts at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from clclip.classification.features.layout import (
    FORMAT,
    MARKER,
    own_sentences,
    said,
    sentences_file,
    views_of,
)
from clclip.core.artifacts import Task, read_stage_file
from clclip.core.errors import InputError
from clclip.core.task import current_classes, features_dir, text_names

Array = np.ndarray


class ImageFeatures:
    """A finished store, open for reading.

    Attributes:
        width: d of the views.

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
        self._name = {said(name): row for row, name in enumerate(marker["names"])}
        self._shapes: dict[str, list[int]] = marker["shapes"]
        names = views_of(marker["mirror"], marker.get("taps", ()))
        self._views = [self._array(view) for view in names]
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

    def names(self, words: Sequence[str]) -> Array:
        """Return unit embeddings (K, d) of class names of the data set.

        Raises:
            InputError: if the data set has no such class.
        """
        for word in words:
            if said(word) not in self._name:
                raise InputError(f"no text of {word!r}", self.folder, "a class of the data set")
        return self._array("text")[[self._name[said(word)] for word in words]]


def open_store(task: Task, split: str, resources: Path) -> ImageFeatures:
    """Return the feature store of a split.

    Raises:
        InputError: if there is none, or the task names none.
    """
    folder = features_dir(task, split, resources)
    if folder is None:
        expected = "a task.json made by `clclip resolve` for this method"
        raise InputError("no feature store", "task.json: features", expected)
    return ImageFeatures(folder)


def new_texts(task: Task, store: ImageFeatures, resources: Path) -> Array:
    """Return unit text embeddings (K_new, d) of a task's new classes, float32.

    Raises:
        InputError: if the file of texts of its own is missing or something else.
    """
    texts = text_names(task)[-len(current_classes(task)) :]
    _, own = own_sentences(task)
    if not own:
        return np.asarray(store.names(texts), dtype=np.float32)
    rows = dict(zip(own, _sentences(sentences_file(task, resources), len(own)), strict=True))
    return np.stack([rows[t] if t in rows else store.names([t])[0] for t in texts])


def _sentences(path: Path, count: int) -> Array:
    """Return the rows (count, d) of a file of ``embed_sentences``."""
    expected = "what `clclip embed-text --template` writes"
    if not path.is_file():
        raise InputError("no such file", path, expected)
    try:
        with safe_open(path, framework="np") as file:
            rows = file.get_tensor("text")
    except (SafetensorError, OSError) as error:
        raise InputError(f"not text embeddings ({error})", path, expected) from None
    if rows.ndim != 2 or len(rows) != count or not np.isfinite(rows).all():
        raise InputError(f"text embeddings of shape {rows.shape}", path, expected)
    return rows.astype(np.float32)
