"""CL-CLIP's pathways: per class a gate on the shared features, and the experts that read it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from clclip.clip.cost_volume import cost_volume
from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.pyramid import laid_out
from clclip.detection.layers.region_maps import RegionMaps
from clclip.detection.methods.clclip.adapter import ResidualPath
from clclip.detection.methods.clclip.experts import ExpertBank
from clclip.detection.methods.clclip.gate import Gate
from clclip.detection.methods.clclip.rest import Rest
from clclip.detection.methods.detector import Detector, DetectorInputs
from clclip.detection.options.clclip import ClClipOptions


class Pathways(Detector):
    """The parts of CL-CLIP over the class groups of tasks 1..t, and how features run through them.

    Task i's experts (``banks[i - 1]``) read the features of one path. With ``shared: adapters``
    every task has a path of its own, otherwise all banks read ``paths[0]``. ``origins[i - 1]`` is
    the place of the first path of its line: 0, but in a model that was merged.

    Args:
        inputs: feature sizes, class groups and text embeddings.
        options: the method's options.
    """

    options: ClClipOptions

    def __init__(self, inputs: DetectorInputs, options: ClClipOptions) -> None:
        super().__init__(inputs, options)
        self.register_buffer("background", inputs.background, persistent=False)
        self.gate = Gate(options.gate, options.refiner)
        text_width = inputs.text.shape[1] if options.text_score else 0
        parts = (inputs.width, inputs.stride, options, text_width)
        self.origins = [place - 1 for place in inputs.origins] or [0] * len(self.groups)
        self.paths = nn.ModuleList([SharedPath(*parts)])
        if options.shared == "adapters":
            for place, origin in enumerate(self.origins[1:], 1):
                residual = options.adapter == "residual" and origin != place
                self.paths.append((ResidualPath if residual else SharedPath)(*parts))
        if options.objectness:
            for path in self.paths:
                path.rpn.register_forward_pre_hook(partial(_drop_below, options.objectness))
        self.rests = nn.ModuleDict()  # by the place of a path
        if options.rest and options.shared == "adapters":
            for place, origin in enumerate(self.origins):
                if origin != place:
                    sizes = len(self.groups[origin]), len(self.groups[place])
                    self.rests[str(place)] = Rest(*sizes)
        self.banks = nn.ModuleList(
            ExpertBank(
                names if options.experts else ["every class"],
                options.channels,
                options.expert_width,
                options.expert_depth,
                box=options.expert_box,
                seed=inputs.seed,
            )
            for names in (self.groups if options.experts else self.groups[: len(self.paths)])
        )

    def shared_paths(self) -> Sequence[SharedPath]:
        """Return the paths of all tasks, or the one that they share."""
        return list(self.paths)

    def classes_of(self, index: int) -> slice:
        """Return the columns, among the seen classes, of a task's classes, by its 0-based index."""
        start = sum(map(len, self.groups[:index]))
        return slice(start, start + len(self.groups[index]))

    def gates(self, dense: Tensor, classes: slice) -> tuple[Tensor, Tensor]:
        """Return cost volume and gate, each (B, K, h, w), of some seen classes."""
        cost = cost_volume(dense, self.text[classes])
        background = cost_volume(dense, self.background) if self.gate.mode == "softmax" else None
        return cost, self.gate(cost, background)

    def pathways(
        self, dense: Tensor, classes: slice, boxes: list[Tensor]
    ) -> tuple[RegionMaps, Tensor]:
        """Return the gate seen through each region, and the prior (R, K), the mean cost in it."""
        cost, gate = self.gates(dense, classes)
        costs = RegionMaps(cost, boxes, self.stride)
        return costs.of(gate), costs.means()

    def decouple(self, regions: Tensor, gate: Tensor, region: Tensor) -> Tensor:
        """Return the pathway F_{r,c} = F_r * (eps + gate_{r,c}) of pairs: (N, C, 7, 7)."""
        # not regions[region], whose backward adds up element by element
        if (rows := laid_out(regions)).is_contiguous():
            shared = rows.index_select(0, region)
        else:  # in channels-last, kept so
            shared = rows.permute(0, 2, 3, 1).index_select(0, region).permute(0, 3, 1, 2)
        gate = (self.options.gate_floor + gate.unsqueeze(1)).to(shared.dtype)
        return shared * gate if torch.is_grad_enabled() else shared.mul_(gate)

    def text_scores(self, path: SharedPath, vectors: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Return ``path``'s text scores of a task's classes (see ``TextScore.forward``).

        Args:
            path: a path with a text classifier.
            vectors: (R, fc_width) region vectors.
            index: 0-based index of the task.
        """
        classes = self.classes_of(index)
        return path.text(vectors, self.text[: classes.stop], classes.start)  # type: ignore[misc]  # has one

    def rest_of(self, index: int) -> Rest | None:
        """Return what lets a task's path rest, by the 0-based index; None: it never does."""
        return self.rests[str(index)] if str(index) in self.rests else None

    def bank_of(self, index: int) -> ExpertBank:
        """Return the experts of a task, by its 0-based index."""
        return self.banks[index if self.options.experts else min(index, len(self.banks) - 1)]

    def apply_experts(
        self, bank: ExpertBank, features: Tensor, column: Tensor, prior: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits, last activations and box deltas of pairs (see ``ExpertBank.forward``)."""
        if not self.options.experts:
            column = torch.zeros_like(column)  # one expert serves every class
        return bank(features, column, prior)

    def routing(self, prior: Tensor) -> Tensor:
        """Return the values (R, K) that the routing thresholds are compared with."""
        return self.gate.share(prior) if self.options.route in ("share", "text") else prior


def _drop_below(objectness: float, rpn: nn.Module, inputs: object) -> None:
    """Let an RPN drop unlikely proposals when it detects; training sees them all."""
    rpn.score_thresh = 0.0 if rpn.training else objectness
