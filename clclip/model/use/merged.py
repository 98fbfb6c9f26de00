"""The network of a model that was merged: lines of CL-CLIP side by side on one tower.

A line is what was learned in one stream: parts that share a gate and compete with the parts of
their line before them. Lines do not know each other, so each detects what it detected alone. A task
that is learned after a merge belongs to the first model's line and competes with the parts of all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from clclip.clip.ids import text_file
from clclip.clip.text import read_background, read_text
from clclip.core.artifacts import Task
from clclip.core.errors import InputError
from clclip.core.task import read_task, task_folders
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.regions import select_detections
from clclip.detection.methods.clclip.adapter import ResidualPath
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.clclip.inference import Candidates, run_paths
from clclip.detection.methods.detector import Detector, DetectorInputs, Prediction
from clclip.detection.options.clclip import ClClipOptions
from clclip.detection.stages.build import load_detector, make_detector
from clclip.detection.weights import MEMORY, read_weights
from clclip.model.card import GATE
from clclip.training.shares import Losses


@dataclass(frozen=True)
class Line:
    """One stream's parts.

    Attributes:
        network: over the columns from ``first`` on; of parts of other lines between its own it
            holds the texts that compete, and never asks their experts.
        parts: its parts, 0-based places in ``network``.
        first: the column of the whole model at which the network's columns start.
        place: 0-based place of the network's first part in the whole model.
    """

    network: ClClip
    parts: list[int]
    first: int
    place: int


class Merged(Detector):
    """All lines of a model as one detector, for inference.

    Args:
        inputs: of the whole model.
        options: of its last part.
        lines: the streams it was merged from.
    """

    options: ClClipOptions

    def __init__(
        self, inputs: DetectorInputs, options: ClClipOptions, lines: Sequence[Line]
    ) -> None:
        super().__init__(inputs, options)
        self.lines = list(lines)
        self.networks = torch.nn.ModuleList(line.network for line in lines)

    def begin_task(self) -> None:
        """Refuse: a task after a merge is learned by the network of the first line."""
        raise TypeError("got a merged network to train; expected that of one line")

    def losses(self, batch: Batch) -> Losses:
        """Refuse, as ``begin_task``."""
        raise TypeError("got a merged network to train; expected that of one line")

    def shared_paths(self) -> list[SharedPath]:
        """Return the paths of all parts, in their order, each on the base of its own line."""
        paths: dict[int, SharedPath] = {}
        for line in self.lines:
            own = line.network.shared_paths()
            base = _Base(own[line.parts[0]])
            for part in line.parts:
                paths[line.place + part] = cast(SharedPath, _OnOwnBase(own[part], base))
        return [paths[place] for place in sorted(paths)]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Prediction:
        """Return detections, and the proposals of every part's path."""
        made: dict[int, tuple[Candidates, list[Tensor]]] = {}
        for line in self.lines:
            for part, candidates, proposals in _of_line(line, batch):
                made[line.place + part] = candidates, proposals
        ordered = [made[place] for place in sorted(made)]
        results, s = [], self.options
        for n in range(len(batch.canvas.image_sizes)):
            boxes, scores, columns = (
                torch.cat([part[n] for part in parts])
                for parts in zip(*(candidates for candidates, _ in ordered), strict=True)
            )
            results.append(
                select_detections(
                    boxes,
                    scores,
                    columns,
                    threshold=s.score_threshold,
                    nms=s.nms,
                    limit=s.detections,
                )
            )
        return Prediction(results, [proposals for _, proposals in ordered])


class _Base:
    """The first path of a line, whose levels are made once for all parts of the line.

    Args:
        path: the path.
    """

    def __init__(self, path: SharedPath) -> None:
        self.path = path
        self._last: tuple[Sequence[Tensor], OrderedDict[str, Tensor]] | None = None

    def levels(self, taps: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
        """Return its levels of the taps."""
        if self._last is None or self._last[0] is not taps:
            self._last = taps, self.path.levels(taps)
        return self._last[1]


class _OnOwnBase:
    """A path that asks nobody for the levels that it builds on: those of its own line.

    Whoever goes through the paths of a detector knows one base. All else is the path's.

    Args:
        path: the path.
        base: of its line.
    """

    def __init__(self, path: SharedPath, base: _Base) -> None:
        self._path, self._base = path, base

    def __getattr__(self, name: str) -> Any:
        return getattr(self._path, name)

    def levels(
        self, taps: Sequence[Tensor], base: OrderedDict[str, Tensor] | None = None
    ) -> OrderedDict[str, Tensor]:
        """Return the path's levels; ``base`` may be another line's, and is not read."""
        if self._path is self._base.path:
            return self._base.levels(taps)
        if isinstance(self._path, ResidualPath):
            return self._path.levels(taps, self._base.levels(taps))
        return self._path.levels(taps)


def _of_line(line: Line, batch: Batch) -> Iterator[tuple[int, Candidates, list[Tensor]]]:
    """Yield each part of a line with its candidates, columns of the whole model, and proposals."""
    for part, ((boxes, scores, columns),), proposals in run_paths(line.network, batch, line.parts):
        yield part, (boxes, scores, [own + line.first for own in columns]), proposals


def is_merged(task: Task) -> bool:
    """Tell whether a task's network has several lines."""
    return len(set(task.get("origins") or [1])) > 1


def load_network(task_file: Path, resources: Path, width: int, stride: float) -> Detector:
    """Return the detector after a task, whether its model was merged or not.

    Args:
        task_file: task.json of its last part.
        resources: folder of text embeddings.
        width: channels of the tower's taps.
        stride: pixels per token of the tower.
    """
    load = load_merged if is_merged(read_task(task_file)) else load_detector
    return load(task_file, resources, width, stride)


def load_merged(task_file: Path, resources: Path, width: int, stride: float) -> Merged:
    """Return the network of a merged model, in eval mode, frozen; as ``load_detector`` does.

    Args:
        task_file: task.json of the last part; the others lie in its siblings.
        resources: folder of text embeddings.
        width: channels of the tower's taps.
        stride: pixels per token of the tower.

    Raises:
        InputError: if a part is missing, damaged or does not fit.
    """
    task = read_task(task_file)
    texts, folders = text_file(task, resources), task_folders(task_file)
    _, text = read_text(texts)
    background, groups = read_background(texts), task["groups"]
    starts = [0, *accumulate(map(len, groups))]
    lines = []
    for origin in sorted(set(task["origins"])):
        own = [k for k, of in enumerate(task["origins"], 1) if of == origin]
        first, stop = starts[origin - 1], starts[own[-1]]
        here = slice(origin - 1, own[-1])
        inputs = DetectorInputs(
            width,
            stride,
            groups[here],
            text[first:stop],
            background,
            task["seed"],
            [of - origin + 1 for of in task["origins"][here]],
        )
        network = make_detector(task["method"], inputs, task["switches"])
        assert isinstance(network, ClClip)
        _fill(network, folders[here], origin)
        lines.append(Line(network.finished(), [k - origin for k in own], first, origin - 1))
    whole = DetectorInputs(width, stride, groups, text, background, task["seed"])
    options = lines[0].network.options
    return Merged(whole, options, lines).eval().requires_grad_(False)


def _fill(network: ClClip, folders: Sequence[Path], origin: int) -> None:
    """Load a line's parts, whose tensors are named by their place in the whole model."""
    state: dict[str, Tensor] = {}
    for folder in folders:
        tensors, _ = read_weights(folder / "weights.safetensors")
        state |= moved_tensors(tensors, 1 - origin)
    if origin > 1:
        gate, _ = read_weights(folders[0] / GATE)
        state |= gate
    wanted = network.state_dict()
    for name, value in wanted.items():
        if name not in state or state[name].shape != value.shape:
            expected = "the parts of one merged model"
            raise InputError(f"tensor {name!r} is missing or does not fit", folders[0], expected)
    network.load_state_dict({name: state[name] for name in wanted})


def moved_tensors(tensors: Mapping[str, Tensor], by: int) -> dict[str, Tensor]:
    """Return a part's tensors as they are named ``by`` places later."""
    result = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind in ("paths", "banks", "rests"):
            place, _, own = rest.partition(".")
            name = f"{kind}.{int(place) + by}.{own}"
        if not name.startswith(MEMORY):
            result[name] = value
    return result
