"""Images as uint8 tensors, prepared by open_clip's own transform of the tower; no augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from clclip.core.errors import InputError
from clclip.data.images import load_rgb

if TYPE_CHECKING:
    from clclip.clip.load import LoadedClip

CACHE_BYTES = 2 * 2**30  # decoded images up to this are kept in memory


def preparation(model: nn.Module, size: int) -> Callable[[Image.Image], Tensor]:
    """Return what turns an RGB image into uint8 (3, size, size) as open_clip does for a tower.

    It resizes and cuts as the tower's tag says (``shortest``, ``longest`` or ``squash``; bicubic or
    bilinear). open_clip's last two steps, division by 255 and normalisation, are ``Pixels``'s.

    Args:
        model: built by ``clclip.clip.load.build``.
        size: side in px.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    settings = dict(open_clip.get_model_preprocess_cfg(model)) | {"size": size}
    whole = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    steps = whole.transforms[:-2]

    def prepare(image: Image.Image) -> Tensor:
        for step in steps:
            image = step(image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

    return prepare


class Pixels:
    """The images of a split, read on demand and cached while they fit.

    Args:
        paths: image files.
        clip: whose tower sees them.
        size: side in px.
        device: where batches go.
    """

    def __init__(
        self, paths: Sequence[Path], clip: LoadedClip, size: int, device: torch.device
    ) -> None:
        self.paths, self.device = list(paths), device
        self.prepare = preparation(clip.model, size)
        self.mean = torch.tensor(clip.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(clip.std, device=device).view(3, 1, 1)
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
        pixels = self.prepare(load_rgb(self.paths[row]))
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
