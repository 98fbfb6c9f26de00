"""Frozen features computed on the fly, where they are not cached (large towers, LSJ)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clclip.clip.features import FeatureStore
from clclip.core.artifacts import Task
from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.core.machine import speed
from clclip.core.task import clip_dir, features_dir
from clclip.data.index import image_root
from clclip.detection.inputs.views import View, render

if TYPE_CHECKING:  # open_clip takes seconds to import: only where a tower runs
    from clclip.clip.tower import TowerFeatures


class OnlineFeatures:
    """The frozen tower over image files, with the interface of a feature store.

    Args:
        folder: the CLIP's folder, of ``clclip fetch-clip``.
        images: image id -> (file, whether EXIF rotation applies).
        size: side of the square canvas in pixels.
        dense: mode of the dense tokens.
        taps: blocks whose outputs are read.
    """

    def __init__(
        self,
        folder: Path,
        images: Mapping[int, tuple[Path, bool]],
        size: int,
        dense: str,
        taps: Sequence[int],
    ) -> None:
        from clclip.clip.load import load_clip
        from clclip.clip.tower import FrozenTower

        clip = load_clip(folder)
        if size < 1 or size % clip.patch:
            expected = f"a positive multiple of the patch, {clip.patch}"
            raise InputError(f"canvas of {size} pixels", "training.image_size", expected)
        self.images, self.size, self.stride = images, size, clip.patch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tower = FrozenTower(clip, dense, taps).to(self.device)
        if speed().compile:
            self.tower = torch.compile(self.tower)
        self.mean = torch.tensor(clip.mean).view(3, 1, 1)
        self.std = torch.tensor(clip.std).view(3, 1, 1)
        # one patch tells the width of the taps
        self.width = self.tower(torch.zeros(1, 3, size, size, device=self.device)).taps[0].shape[1]

    def pixels(self, image_id: int) -> Tensor:
        """Return an image as uint8 (3, H, W)."""
        from clclip.clip.canvas import to_tensor
        from clclip.data.images import load_rgb

        return to_tensor(load_rgb(*self.images[image_id]))

    def canvases(self, image_ids: Sequence[int], views: Sequence[View]) -> Tensor:
        """Return some images as they lie on their canvases, (B, 3, size, size)."""
        return self.rendered((self.pixels(image_id) for image_id in image_ids), views)

    def rendered(self, images: Iterable[Tensor], views: Sequence[View]) -> Tensor:
        """Return images (3, H, W) uint8 as they lie on their canvases, (B, 3, size, size)."""
        return torch.stack(
            [
                render(image, view, self.size, self.mean, self.std)
                for image, view in zip(images, views, strict=True)
            ]
        )

    def features(self, canvases: Tensor) -> TowerFeatures:
        """Return the features of canvases; the tower sees few at a time where they are large."""
        most = max(1, speed().tower_tokens // (self.size // self.stride) ** 2)
        parts = [
            self.tower(part.to(self.device, non_blocking=True)) for part in canvases.split(most)
        ]
        if len(parts) == 1:
            return parts[0]
        taps = tuple(torch.cat(level) for level in zip(*(p.taps for p in parts), strict=True))
        return type(parts[0])(taps, torch.cat([part.dense for part in parts]))

    def read(self, image_ids: Sequence[int], views: Sequence[View]) -> TowerFeatures:
        """Return the features of some images as they lie on their canvases."""
        return self.features(self.canvases(image_ids, views))


def open_features(
    task: Task, split: str, resources: Path, labels: Path
) -> FeatureStore | OnlineFeatures:
    """Return where a task's frozen features come from.

    Args:
        task: the task file.
        split: "train" or "test".
        resources: folder of CLIPs, of the data's index and of feature stores.
        labels: the task's split file, which names the images.
    """
    store = features_dir(task, split, resources)
    return online_features(task, resources, labels) if store is None else FeatureStore(store)


def online_features(task: Task, resources: Path, labels: Path) -> OnlineFeatures:
    """Return the tower over a split's images, whether features are cached or not.

    Args:
        task: the task file.
        resources: folder of CLIPs and of the data's index.
        labels: the task's split file, which names the images.
    """
    data, root = read_json(labels), image_root(task, resources)
    images = {i["id"]: (root / i["file_name"], i.get("exif", True)) for i in data["images"]}
    features = task["features"]
    return OnlineFeatures(
        clip_dir(task, resources), images, features["size"], features["dense"], features["taps"]
    )
