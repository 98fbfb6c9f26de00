"""Images as uint8 tensors, prepared as CLIP does: bicubic, centre crop, no augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clclip.core.errors import InputError
from clclip.data.images import load_rgb

CACHE_BYTES = 2 * 2**30  # decoded images up to this are kept in memory


def square(image: Image.Image, size: int) -> Tensor:
    """Return uint8 (3, size, size): shorter side to ``size`` px (bicubic), then the centre."""
    width, height = image.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        image = image.resize(
            (max(size, round(width * scale)), max(size, round(height * scale))),
            Image.Resampling.BICUBIC,
        )
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class Pixels:
    """The images of a split, read when asked for and kept while they fit.

    Args:
        paths: image files.
        size: side in px.
        mean, std: statistics of the tower for values in 0..1.
        device: where batches go.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
    ) -> None:
        self.paths, self.size, self.device = list(paths), size, device
        self.mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(std, device=device).view(3, 1, 1)
        self.cached: dict[int, Tensor] = {}
        self.keep = len(self.paths) * 3 * size * size <= CACHE_BYTES

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Sequence[int]) -> Tensor:
        """Return the normalised images (len(rows), 3, size, size) on the device."""
        batch = torch.stack([self._load(int(row)) for row in rows]).to(self.device)
        return (batch.float() / 255 - self.mean) / self.std

    def _load(self, row: int) -> Tensor:
        if row in self.cached:
            return self.cached[row]
        pixels = square(load_rgb(self.paths[row]), self.size)
        if self.keep:
            self.cached[row] = pixels
        return pixels


def chunks(count: int, size: int) -> Iterator[range]:
    """Yield 0..count-1 in ranges of at most ``size``."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


@torch.no_grad()
def over_batches(count: int, size: int, compute: Callable[[range], Tensor]) -> Tensor:
    """Return the concatenated results of ``compute`` over ranges of rows, without gradients."""
    return torch.cat([compute(rows) for rows in chunks(count, size)])


def label_columns(images: Sequence[dict], classes: Sequence[str], where: Path) -> Tensor:
    """Return the column (N,) of each image's label among ``classes``.

    Raises:
        InputError: if a label is not among them.
    """
    column = {name: k for k, name in enumerate(classes)}
    for image in images:
        if image["label"] not in column:
            raise InputError(f"label {image['label']!r}", where, "a class of the task")
    return torch.tensor([column[image["label"]] for image in images])
