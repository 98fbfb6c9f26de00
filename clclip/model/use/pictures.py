"""Images as people have them: files, PIL images, arrays, tensors; one or many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps

from clclip.core.errors import InputError
from clclip.data.images import load_rgb
from clclip.data.own_images import find_images

EXPECTED = (
    "a path, a PIL image, an array (H, W, 3) or (H, W) in uint8 or floats of 0..1, a tensor "
    "(3, H, W) likewise, or a list of these"
)
READERS = 2
T = TypeVar("T")


class Picture(NamedTuple):
    """An upright RGB image and the file it comes from, if any."""

    image: Image.Image
    path: str | None


def listed(images: Any) -> tuple[list[Any], bool]:
    """Return the images one by one, and whether a single one was given.

    A folder stands for the images in it; an array or tensor of four dimensions for its rows.

    Raises:
        InputError: if there is none.
    """
    if isinstance(images, str | os.PathLike):
        path = Path(images)
        if path.is_dir():
            return list(find_images([path])), False
        return [path], True
    if isinstance(images, Image.Image):
        return [images], True
    if hasattr(images, "ndim") and hasattr(images, "shape"):  # an array or a tensor
        return ([images], True) if images.ndim != 4 else (list(images), False)
    if not isinstance(images, Iterable):
        raise InputError(f"got {type(images).__name__}", "images", EXPECTED)
    return list(images), False


def opened(item: Any) -> Picture:
    """Return an image as upright 8-bit RGB.

    Raises:
        InputError: if it cannot be read, or is nothing of the kind.
    """
    if isinstance(item, Picture):
        return item
    if isinstance(item, str | os.PathLike):
        return Picture(load_rgb(Path(item)), str(item))
    if isinstance(item, Image.Image):
        return Picture(upright(item), getattr(item, "filename", None) or None)
    if hasattr(item, "detach"):
        values = item.detach().cpu().numpy()
        if values.ndim == 3 and values.shape[0] in (1, 3):
            return Picture(Image.fromarray(_bytes(values.transpose(1, 2, 0))), None)
        raise InputError(f"a tensor of shape {tuple(values.shape)}", "images", EXPECTED)
    if isinstance(item, np.ndarray):
        return Picture(Image.fromarray(_bytes(item)), None)
    raise InputError(f"got {type(item).__name__}", "images", EXPECTED)


def upright(image: Image.Image) -> Image.Image:
    """Return a PIL image as ``load_rgb`` returns its file: 8-bit RGB, turned as its EXIF says.

    Raises:
        InputError: if its pixels cannot be decoded.
    """
    try:
        turned = ImageOps.exif_transpose(image)
        if turned.mode == "F" or turned.mode.startswith("I"):  # floats, or 16-bit grey
            values = np.nan_to_num(np.asarray(turned, dtype=np.float64))
            top = 65535 if turned.mode != "F" else 255 if values.max(initial=0) > 1 else 1
            return Image.fromarray(_bytes((values / top).clip(0, 1)))
        if turned.has_transparency_data:
            white = Image.new("RGBA", turned.size, "white")
            turned = Image.alpha_composite(white, turned.convert("RGBA"))
        return turned.convert("RGB")
    except Exception as error:  # decoders raise anything on damaged bytes
        raise InputError(f"broken image ({error})", "images", "a whole image") from None


def _bytes(values: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3), (H, W, 1) or (H, W) as uint8 (H, W, 3)."""
    shape = values.shape
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in (1, 3) or 0 in values.shape:
        raise InputError(f"an array of shape {shape}", "images", EXPECTED)
    if values.dtype != np.uint8:
        if not np.issubdtype(values.dtype, np.floating):
            raise InputError(f"an array of {values.dtype}", "images", EXPECTED)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError("an array of floats beyond 0..1", "images", EXPECTED)
        values = (values * 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def prepared(
    items: Sequence[Any],
    prepare: Callable[[Picture], T],
    batch: int,
    on_bad: Callable[[int, InputError], None] | None,
) -> Iterator[list[tuple[int, T]]]:
    """Yield batches of prepared images with their numbers, a batch read ahead in threads.

    Args:
        items: the images.
        prepare: what is done to each, in a thread.
        batch: images of a batch.
        on_bad: called with an image that cannot be read, which is then skipped; None: an error.

    Raises:
        InputError: for the first image that cannot be read, unless ``on_bad`` takes it.
    """
    if batch < 1:
        raise InputError(f"batch {batch}", "batch", "a number from 1")
    starts = range(0, len(items), batch)
    locks: dict[int, Lock] = {}  # a PIL image decodes itself on first use, in one thread at a time
    with ThreadPoolExecutor(READERS) as pool:

        def one(number: int) -> T:
            item = items[number]
            shared = isinstance(item, Image.Image)
            with locks.setdefault(id(item), Lock()) if shared else nullcontext():
                picture = opened(item)
            return prepare(picture)

        def read(start: int) -> list[tuple[int, Future[T]]]:
            numbers = range(start, min(start + batch, len(items)))
            return [(n, pool.submit(one, n)) for n in numbers]

        ahead = read(0) if items else []
        try:
            for start in starts:
                now, ahead = ahead, read(start + batch)
                yield list(_results(now, on_bad))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _results(
    waiting: Sequence[tuple[int, Future[T]]], on_bad: Callable[[int, InputError], None] | None
) -> Iterator[tuple[int, T]]:
    """Yield what the threads made."""
    for number, future in waiting:
        try:
            yield number, future.result()
        except InputError as error:
            if on_bad is None:
                raise
            on_bad(number, error)
