"""Frozen features, computed once per image set and shared by all methods, tasks and seeds.

A store is a folder of float16 arrays that are mapped into memory, one row per image, and a marker
``done.json`` that is written last. It is built in a temporary folder and renamed, so two jobs that
build the same store at once are safe: the second finds the first one's result and throws its own
away.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clclip.clip.ids import FEATURE_FORMAT
from clclip.core.artifacts import read_stage_file
from clclip.core.errors import InputError
from clclip.core.files import make_folder, read_object, umask, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from clclip.clip.load import LoadedClip
    from clclip.clip.tower import FrozenTower, TowerFeatures

logger = logging.getLogger(__name__)

MARKER = "done.json"
_BATCH_TOKENS = (
    8192  # tokens of one forward pass; it does not depend on the data, so values do not either
)
_SPARE = 1 << 28  # bytes that must stay free on the disk
_LOG_SECONDS = 5.0


def build_features(
    index_dir: Path,
    clip_dir: Path,
    split: str,
    out: Path,
    size: int,
    dense: str,
    taps: Sequence[int],
    flip: bool = False,
) -> None:
    """Compute the features of all images of a split.

    Args:
        index_dir: folder of an index.json.
        clip_dir: folder that ``fetch_clip`` wrote.
        split: "train" or "test".
        out: the store; a complete one is left as it is.
        size: side of the square canvas in pixels, a multiple of the tower's patch.
        dense: mode of the dense tokens.
        taps: blocks whose outputs are stored.
        flip: store the mirrored images too.

    Raises:
        InputError: for bad input of any kind, and if the disk is too small.
    """
    if (out / MARKER).is_file():
        logger.info("%s is complete", out)
        return
    from clclip.clip.load import load_clip
    from clclip.clip.tower import FrozenTower

    clip = load_clip(clip_dir)
    if size < 1 or size % clip.patch:
        expected = f"a positive multiple of the patch, {clip.patch}"
        raise InputError(f"canvas of {size} pixels", "training.image_size", expected)
    tower = FrozenTower(clip, dense, taps)
    root, images = split_images(index_dir, split)
    layout = _layout(tower, clip, size, len(images), flip)
    _check_disk(out.parent, layout)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        digests = _fill(temporary, tower, clip, root, images, size, layout)
        marker = {
            "format": FEATURE_FORMAT,
            "clip": clip.name,
            "dense": dense,
            "taps": list(tower.taps),
            "flip": flip,
            "size": size,
            "stride": clip.patch,
            "images": [image["id"] for image in images],
            "extents": [[image["width"], image["height"]] for image in images],
            "shapes": {name: list(shape) for name, shape in layout.items()},
            "sha256": digests,
        }
        write_json(temporary / MARKER, marker)
        settle(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def split_images(index_dir: Path, split: str) -> tuple[Path, list[dict[str, Any]]]:
    """Return the folder of images and the image entries of a split, in the file's order."""
    index = read_object(index_dir / "index.json", ("splits", "root"), "prepare")
    if split not in index["splits"]:
        known = ", ".join(index["splits"])
        raise InputError(f"no split {split!r}", index_dir / "index.json", f"one of {known}")
    images = read_object(index_dir / index["splits"][split], ("images",), "prepare")["images"]
    if not images:
        raise InputError(
            "a split without images", index_dir / index["splits"][split], "at least one image"
        )
    return index_dir / index["root"], images


def _layout(
    tower: FrozenTower, clip: LoadedClip, size: int, count: int, flip: bool
) -> dict[str, tuple[int, ...]]:
    """Return array name -> shape (images, channels, h, w), from a pass over one empty canvas."""
    import torch

    empty = tower(torch.zeros(1, 3, size, size))
    arrays = {f"tap{k}": tap for k, tap in zip(tower.taps, empty.taps, strict=True)}
    arrays["dense"] = empty.dense
    variants = ("", "_flip") if flip else ("",)
    return {
        f"{name}{variant}": (count, *value.shape[1:])
        for variant in variants
        for name, value in arrays.items()
    }


def _check_disk(folder: Path, layout: dict[str, tuple[int, ...]]) -> None:
    """Refuse to start what the disk cannot hold."""
    make_folder(folder)
    needed = sum(2 * int(np.prod(shape)) for shape in layout.values())
    free = shutil.disk_usage(folder).free
    logger.info("%.2f GB of features, %.1f GB free", needed / 1e9, free / 1e9)
    if needed + _SPARE > free:
        raise InputError(
            f"features of {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB free",
            folder,
            "a larger disk, a smaller image_size, or cache_features: false",
        )


def _fill(
    folder: Path,
    tower: FrozenTower,
    clip: LoadedClip,
    root: Path,
    images: list[dict[str, Any]],
    size: int,
    layout: dict[str, tuple[int, ...]],
) -> dict[str, str]:
    """Write all arrays of a store and return their digests."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tower = tower.to(device)
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, shape)
        for name, shape in layout.items()
    }
    digests = {name: hashlib.sha256() for name in layout}
    flips = (False, True) if "dense_flip" in layout else (False,)
    batch = max(1, _BATCH_TOKENS // (size // clip.patch) ** 2)
    start, logged_at = time.monotonic(), 0.0
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        for flip, canvases in _canvases(part, root, clip, size, flips):
            features = tower(canvases.to(device))
            for name, value in _named(tower, features, "_flip" if flip else ""):
                rows = value.half().cpu().numpy()
                arrays[name][first : first + len(part)] = rows
                digests[name].update(np.ascontiguousarray(rows))  # type: ignore[arg-type]  # an array is a buffer
        seconds, done = time.monotonic() - start, first + len(part)
        if seconds - logged_at > _LOG_SECONDS or done == len(images):
            logged_at = seconds
            left = seconds / done * (len(images) - done)
            logger.info("features of %d/%d images, %.0f s left", done, len(images), left)
    for array in arrays.values():
        array.flush()
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _canvases(
    images: Sequence[dict[str, Any]], root: Path, clip: LoadedClip, size: int, flips: Sequence[bool]
) -> Iterator[tuple[bool, Tensor]]:
    """Yield (flip, canvases (B, 3, size, size)); every image is decoded once."""
    import torch

    from clclip.clip.canvas import letterbox, to_tensor
    from clclip.data.images import load_rgb

    pixels = [to_tensor(load_rgb(root / i["file_name"], i.get("exif", True))) for i in images]
    for image, tensor in zip(images, pixels, strict=True):
        actual, indexed = tuple(tensor.shape[:0:-1]), (image["width"], image["height"])
        if actual != indexed:
            what = (
                f"image of {actual[0]} x {actual[1]} pixels, indexed as {indexed[0]} x {indexed[1]}"
            )
            what += " (its EXIF orientation may have changed)" if actual == indexed[::-1] else ""
            raise InputError(what, root / image["file_name"], "the file that was indexed")
    for flip in flips:
        yield flip, torch.stack([letterbox(p, size, clip.mean, clip.std, flip) for p in pixels])


def _named(tower: FrozenTower, features: TowerFeatures, suffix: str) -> list[tuple[str, Tensor]]:
    """Return (array name, value) of all features."""
    taps = zip(tower.taps, features.taps, strict=True)
    return [(f"tap{k}{suffix}", tap) for k, tap in taps] + [(f"dense{suffix}", features.dense)]


def settle(temporary: Path, out: Path) -> None:
    """Move a finished store to its place, unless another job was faster."""
    temporary.chmod(0o777 & ~umask())
    if out.exists() and not (out / MARKER).is_file():
        shutil.rmtree(out)  # a leftover without marker
    try:
        os.rename(temporary, out)
    except OSError:
        if not (out / MARKER).is_file():
            raise
        logger.info("%s was finished by another job; this one's result is dropped", out)


class FeatureStore:
    """A finished store, open for reading.

    Attributes:
        image_ids: ids of its images, in stored order.
        size: side of the canvas in pixels.
        stride: canvas pixels per token.
        width: channels of the taps.
        scale: image id -> canvas pixels per image pixel.

    Raises:
        InputError: if the store is missing, unfinished or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / MARKER).is_file():
            raise InputError("no finished feature store", folder, "what `clclip features` writes")
        marker = read_stage_file(folder / MARKER, "features")
        if marker.get("format") != FEATURE_FORMAT:
            raise InputError(
                f"store format {marker.get('format')}",
                folder,
                f"format {FEATURE_FORMAT}; build it anew",
            )
        if len(marker["images"]) != len(marker["extents"]):
            counts = f"{len(marker['images'])} images, {len(marker['extents'])} extents"
            raise InputError(counts, folder / MARKER, "one extent per image")
        self.image_ids: list[int] = marker["images"]
        self.size: int = marker["size"]
        self.stride: int = marker["stride"]
        self.taps: list[int] = marker["taps"]
        self.flip: bool = marker["flip"]
        self._shapes: dict[str, list[int]] = marker["shapes"]
        self.width: int = self._shapes[f"tap{self.taps[0]}"][1] if self.taps else 0
        self.dim: int = self._shapes["dense"][1]
        sides = zip(self.image_ids, marker["extents"], strict=True)
        self.scale: dict[int, float] = {image: self.size / max(extent) for image, extent in sides}
        self._row = {image: row for row, image in enumerate(self.image_ids)}

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        """Map all arrays into memory; their sizes are checked, their bytes are not."""
        arrays = {}
        for name, shape in self._shapes.items():
            path = self.folder / f"{name}.npy"
            try:
                # "c": writable as far as torch knows, which converts them faster than numpy
                arrays[name] = np.load(path, mmap_mode="c", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"damaged features ({error})", path, "the file as it was built"
                ) from error
            if list(arrays[name].shape) != shape or arrays[name].dtype != np.float16:
                raise InputError(
                    f"features of shape {arrays[name].shape}", path, f"float16 {tuple(shape)}"
                )
        return arrays

    def read(self, image_ids: Sequence[int], flips: Sequence[bool] | None = None) -> TowerFeatures:
        """Return the features of some images as float32.

        Args:
            image_ids: ids, in any order, repeats allowed.
            flips: for every image, whether to read it mirrored; none by default.

        Raises:
            InputError: if an image is not in the store.
            ValueError: if a mirrored image is asked of a store without them.
        """
        from clclip.clip.tower import TowerFeatures

        flips = [False] * len(image_ids) if flips is None else list(flips)
        if any(flips) and not self.flip:
            raise ValueError(f"got flips for {self.folder}; expected a store built with flip")
        missing = [image for image in image_ids if image not in self._row]
        if missing:
            raise InputError(
                f"no features of image {missing[0]}", self.folder, "an image of the data set"
            )
        rows = [self._row[image] for image in image_ids]
        taps = tuple(self._gather(f"tap{k}", rows, flips) for k in self.taps)
        return TowerFeatures(taps, self._gather("dense", rows, flips))

    def _gather(self, name: str, rows: Sequence[int], flips: Sequence[bool]) -> Tensor:
        """Return rows of one array as float32 (B, C, h, w)."""
        import torch

        out = torch.empty(len(rows), *self._shapes[name][1:])
        for k, (row, flip) in enumerate(zip(rows, flips, strict=True)):
            out[k] = torch.from_numpy(self._arrays[f"{name}_flip" if flip else name][row])
        return out
