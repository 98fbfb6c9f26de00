"""Scenes of the embedded world with frozen features, and detectors of any number of classes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from PIL import Image
from torch import Tensor
from torch.nn import functional

from clclip.clip.canvas import to_tensor
from clclip.clip.cost_volume import cost_volume
from clclip.clip.fetch import fetch_clip
from clclip.clip.load import LoadedClip, load_clip
from clclip.clip.own.settle import clip_id
from clclip.clip.prompts import BACKGROUND_PROMPTS
from clclip.clip.text import text_embeddings
from clclip.clip.tower import FrozenTower, TowerFeatures
from clclip.data.shapes.worlds import generate, world_spec
from clclip.detection.inputs.dataset import FeatureBatches, LabelledImage, read_labels
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.inputs.views import View, render
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.region_maps import RegionMaps
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.detector import DetectorInputs
from clclip.detection.methods.fvit import FViT
from clclip.detection.options.clclip import ClClipOptions
from clclip.detection.options.fvit import FViTOptions
from clclip.training.seeds import generator

SIZE, DENSE, TAPS = 128, "tokens", (1, 2, 3)  # what a plan resolves for the embedded tower
VARIANTS = Path(__file__).parents[1] / "config/variants.yaml"
HOME = Path(os.environ.get("CLCLIP_BENCHMARKS", "resources"))  # scenes and CLIP, made when absent


def embedded_clip() -> LoadedClip:
    """Return the embedded CLIP."""
    folder = HOME / "clip" / clip_id(None)
    if not (folder / "clip.json").exists():
        fetch_clip(None, folder)
    return load_clip(folder)


def world_folder(world: str) -> Path:
    """Return the folder of a generated world, drawn if it is not there."""
    folder = HOME / "data" / world_spec(world)["data_id"]
    if not (folder / "index.json").exists():
        generate(world, folder)
    return folder


def variant(name: str) -> dict[str, Any]:
    """Return the switches of a shipped variant."""
    return yaml.safe_load(VARIANTS.read_text())[name]["switches"]


class Kept:
    """Features of some images in memory, with the reading of ``OnlineFeatures``.

    Args:
        tower: the frozen tower.
        clip: its CLIP.
        images: the images.
        files: image id -> file.
    """

    size = SIZE

    def __init__(
        self, tower: FrozenTower, clip: LoadedClip, images: Sequence[LabelledImage], files: dict
    ) -> None:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.mean, clip.std))
        view = View(1.0, 0, 0, SIZE, SIZE)
        self.shown = {
            image.image_id: render(
                to_tensor(Image.open(files[image.image_id])), view, SIZE, mean, std
            )
            for image in images
        }
        ids = list(self.shown)
        self.rows = {image: row for row, image in enumerate(ids)}
        parts = [self.pixels(ids[k : k + 32]) for k in range(0, len(ids), 32)]
        found = [tower(part) for part in parts]
        self.features_of_all = TowerFeatures(
            tuple(torch.cat(taps) for taps in zip(*(f.taps for f in found), strict=True)),
            torch.cat([f.dense for f in found]),
        )

    def pixels(self, ids: Sequence[int]) -> Tensor:
        """Return canvases (B, 3, size, size)."""
        return torch.stack([self.shown[image] for image in ids])

    def canvases(self, image_ids: Sequence[int], views: Sequence[View]) -> Tensor:
        """Return the rows of images; mirrored ones are not kept."""
        return torch.tensor([self.rows[image] for image in image_ids])

    def features(self, rows: Tensor) -> TowerFeatures:
        """Return the kept features."""
        return TowerFeatures(
            tuple(tap[rows] for tap in self.features_of_all.taps), self.features_of_all.dense[rows]
        )


class Scenes:
    """Some training and test scenes of a world, all classes labelled.

    Args:
        world: "shapes20", "shapes80" or "shapes20_tiny".
        train: number of training scenes.
        test: number of test scenes.
    """

    def __init__(self, world: str, train: int, test: int) -> None:
        self.clip = embedded_clip()
        self.tower = FrozenTower(self.clip, DENSE, TAPS)
        self.names: list[str] = world_spec(world)["classes"]
        self.world, folder = world, world_folder(world)
        self.text = text_embeddings(self.clip, self.names)
        self.background = text_embeddings(self.clip, BACKGROUND_PROMPTS)
        self.width = 0
        self.batches: dict[str, FeatureBatches] = {}
        self._kept: dict[str, Kept] = {}
        for split, count in (("train", train), ("test", test)):
            images = read_labels(folder / f"{split}.json", self.names)[:count]
            files = _files(folder, split)
            source = self._kept[split] = Kept(self.tower, self.clip, images, files)
            self.width = source.features_of_all.taps[0].shape[1]
            self.batches[split] = FeatureBatches(images, cast(OnlineFeatures, source))

    def pixels(self, split: str) -> Tensor:
        """Return the canvases (B, 3, size, size) of all scenes of a split."""
        return self._kept[split].pixels(list(self._kept[split].rows))

    def classes(self, count: int) -> tuple[list[str], Tensor]:
        """Return ``count`` class names and their text (count, d).

        Beyond the world's own classes they are copies of them, with a text near the first one's.
        """
        names, rows = [], []
        for k in range(count):
            turn, own = divmod(k, len(self.names))
            name = self.names[own] if not turn else f"{self.names[own]} copy {turn}"
            noise = torch.randn(self.text.shape[1], generator=generator("text", name))
            noise = functional.normalize(noise, dim=0) * (0.1 if turn else 0.0)
            names.append(name)
            rows.append(functional.normalize(self.text[own] + noise, dim=0))
        return names, torch.stack(rows)

    def groups(self, count: int, tasks: int) -> tuple[list[list[str]], Tensor]:
        """Return ``count`` classes in ``tasks`` groups, and their text."""
        names, text = self.classes(count)
        edges = [count * k // tasks for k in range(tasks + 1)]
        return [names[a:b] for a, b in pairwise(edges)], text

    def _inputs(self, groups: list[list[str]], text: Tensor) -> DetectorInputs:
        """Return what a detector of these groups is built for."""
        return DetectorInputs(self.width, self.tower.patch, groups, text, self.background, 0)

    def clclip(self, count: int, tasks: int, **options: object) -> ClClip:
        """Return untrained CL-CLIP over ``count`` classes, routed by thresholds of the scenes.

        By share unless told otherwise: an untrained text classifier says nothing.
        """
        options = {"route": "share"} | options
        groups, text = self.groups(count, tasks)
        torch.manual_seed(0)
        model = ClClip(self._inputs(groups, text), ClClipOptions(**options))
        model.requires_grad_(False).eval()
        dense = self.batch("train", range(min(32, self.count("train")))).dense
        model.gate.calibrate(model.gates(dense, slice(0, min(count, len(self.names))))[0])
        for task, bank in enumerate(model.banks):
            columns = model.classes_of(task)
            value, labels = self._routing(model, columns)
            own = [
                value[labels == (columns.start + k) % len(self.names), k]
                for k in range(len(bank.names))
            ]
            s = model.options
            bank.set_thresholds(own, s.route_recall, shares=s.route in ("share", "text"))
        return model.finished()

    def _routing(self, model: ClClip, columns: slice) -> tuple[Tensor, Tensor]:
        """Return what routing compares, (N, K) of a task's classes, and the boxes' labels."""
        found = []
        for start in range(0, self.count("train"), 16):
            batch = self.batch("train", range(start, min(start + 16, self.count("train"))))
            boxes = [target["boxes"] for target in batch.targets]
            cost = cost_volume(batch.dense, model.text[columns])
            labels = torch.cat([target["labels"] for target in batch.targets])
            prior = RegionMaps(cost, boxes, self.tower.patch).means()
            found.append((model.routing(prior), labels))
        value, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        return value, labels

    def fvit(self, count: int, tasks: int, **options: object) -> FViT:
        """Return F-ViT over the same classes."""
        groups, text = self.groups(count, tasks)
        torch.manual_seed(0)
        return FViT(self._inputs(groups, text), FViTOptions(**options)).finished()

    def count(self, split: str) -> int:
        """Return the number of scenes of a split."""
        return len(self.batches[split].images)

    def batch(self, split: str, members: Sequence[int]) -> Batch:
        """Return scenes with all their labels (columns of the world's own classes)."""
        return self.batches[split].plain(list(members))

    def training(self, members: Sequence[int], classes: int) -> Batch:
        """Return a training batch whose labels index ``classes`` current classes."""
        batch = self.batches["train"].training(0, list(members))
        targets = [{**t, "labels": t["labels"] % classes} for t in batch.targets]
        return Batch(batch.taps, batch.dense, batch.canvas, targets, batch.generators)


def _files(folder: Path, split: str) -> dict[int, Path]:
    images = json.loads((folder / f"{split}.json").read_text())["images"]
    return {image["id"]: folder / "images" / image["file_name"] for image in images}
