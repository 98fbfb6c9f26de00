"""CL-CLIP: cost-volume decoupling into class pathways and a multi-expert RoI head."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clclip.clip.cost_volume import cost_volume
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import unbiased_cross_entropy
from clclip.detection.layers.guard import guarded
from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.regions import (
    BACKGROUND,
    SampledRegions,
    box_loss,
    sample_regions,
    select_detections,
    without_classes_from,
)
from clclip.detection.methods.clclip.adapter import ResidualPath
from clclip.detection.methods.clclip.experts import ExpertBank
from clclip.detection.methods.clclip.gate import Gate, RegionMaps
from clclip.detection.methods.clclip.inference import path_candidates
from clclip.detection.methods.clclip.losses import (
    drift_loss,
    expert_box_loss,
    map_orthogonality,
    score_loss,
)
from clclip.detection.methods.clclip.orthogonality import orthogonality_loss, region_response_pairs
from clclip.detection.methods.clclip.pairs import training_pairs
from clclip.detection.options import DetectionSwitches
from clclip.training.shares import Losses

logger = logging.getLogger(__name__)


class ClClip(nn.Module):
    """CL-CLIP over the class groups of tasks 1..t.

    Task i's experts (``banks[i - 1]``) read the features of one path. With ``shared: adapters``
    every task has a path of its own, otherwise all banks read ``paths[0]``.

    Args:
        width: channels of the taps.
        stride: pixels per token.
        switches: the switches.
        groups: class groups of tasks 1..t.
        text: (K, d) unit text embeddings of the seen classes, in the order of the groups.
        background: (N, d) text embeddings of the fixed background prompts.
        seed: experiment seed.
    """

    def __init__(
        self,
        width: int,
        stride: float,
        switches: DetectionSwitches,
        groups: list[list[str]],
        text: Tensor,
        background: Tensor,
        seed: int,
    ) -> None:
        super().__init__()
        self.switches, self.stride, self.groups = switches, stride, groups
        self.register_buffer("text", text, persistent=False)
        self.register_buffer("background", background, persistent=False)
        self.gate = Gate(switches.gate, switches.refiner)
        parts = (width, stride, switches, text.shape[1] if switches.text_score else 0)
        self.paths = nn.ModuleList([SharedPath(*parts)])
        if switches.shared == "adapters":
            kind = ResidualPath if switches.adapter == "residual" else SharedPath
            self.paths.extend(kind(*parts) for _ in groups[1:])
        self.banks = nn.ModuleList(
            ExpertBank(
                names if switches.experts else ["every class"],
                switches.channels,
                switches.expert_width,
                switches.expert_depth,
                box=switches.expert_box,
                seed=seed,
            )
            for names in (groups if switches.experts else groups[: len(self.paths)])
        )
        # the path before this task for the drift term, the model before it for the guard
        object.__setattr__(self, "reference", None)
        object.__setattr__(self, "teacher", None)

    reference: SharedPath | None
    teacher: ClClip | None

    # ---- life cycle -------------------------------------------------------------------------

    def begin_task(self) -> None:
        """Freeze what earlier tasks own and prepare what this task trains; call after loading."""
        shared, first = self.switches.shared, len(self.groups) == 1
        self.requires_grad_(False)
        self.banks[-1].requires_grad_(True)
        self.gate.requires_grad_(first)
        if first or shared != "frozen":
            self.paths[-1].requires_grad_(True)
        if shared == "adapters" and not first:
            self.paths[-1].start_from(self.paths[0])
        if shared == "drift" and not first:
            # not a submodule: it belongs to this run, not to the weights
            reference = copy.deepcopy(self.paths[0]).requires_grad_(False)
            object.__setattr__(self, "reference", reference)
        if self.switches.relegation_guard != "off" and not first:
            if shared in ("drift", "free"):
                object.__setattr__(self, "teacher", self._previous_model())
            else:
                logger.warning("relegation_guard does nothing: shared: %s protects itself", shared)

    def _previous_model(self) -> ClClip:
        """Return a frozen copy that knows the previous classes only."""
        teacher = copy.deepcopy(self).eval().requires_grad_(False)
        start = self.classes_of(len(self.groups) - 1).start
        teacher.text, teacher.groups = self.text[:start], self.groups[:-1]
        return teacher

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the current task trains."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def classes_of(self, task: int) -> slice:
        """Return the columns, among the seen classes, of the classes of 0-based ``task``."""
        start = sum(map(len, self.groups[:task]))
        return slice(start, start + len(self.groups[task]))

    # ---- pathways ---------------------------------------------------------------------------

    def gates(self, dense: Tensor, classes: slice) -> tuple[Tensor, Tensor]:
        """Return cost volume and gate, each (B, K, h, w), of some seen classes."""
        cost = cost_volume(dense, self.text[classes])
        background = cost_volume(dense, self.background) if self.gate.kind == "softmax" else None
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
        shared = regions.index_select(0, region)
        gate = self.switches.gate_floor + gate.unsqueeze(1)
        return shared * gate if torch.is_grad_enabled() else shared.mul_(gate)

    def text_scores(self, path: SharedPath, vectors: Tensor, task: int) -> tuple[Tensor, Tensor]:
        """Return what ``path`` says of regions and the classes of ``task`` (see ``TextScore``)."""
        classes = self.classes_of(task)
        return path.text(vectors, self.text[: classes.stop], classes.start)

    def bank_of(self, task: int) -> ExpertBank:
        """Return the experts of 0-based ``task``."""
        return self.banks[task if self.switches.experts else min(task, len(self.banks) - 1)]

    def apply_experts(
        self, bank: ExpertBank, features: Tensor, column: Tensor, prior: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits, last activations and box deltas of pairs (see ``ExpertBank.forward``)."""
        if not self.switches.experts:
            column = torch.zeros_like(column)  # one expert serves every class
        return bank(features, column, prior)

    def routing(self, prior: Tensor) -> Tensor:
        """Return what the thresholds are compared with, (R, K), given a task's priors."""
        return self.gate.share(prior) if self.switches.route == "share" else prior

    # ---- training ---------------------------------------------------------------------------

    def losses(self, batch: Batch) -> Losses:
        """Return the named, weighted losses of a batch (item 7), and what each is a mean over."""
        s, path, task = self.switches, self.paths[-1], len(self.groups) - 1
        levels = path.levels(batch.taps, self._base_levels(batch.taps))
        targets = self._guarded(batch)
        proposals, losses = path.propose(levels, batch.canvas, targets, batch.generators)
        sampled = sample_regions(proposals, targets, batch.generators, s.roi_batch, s.roi_positive)
        regions = path.regions(levels, sampled.boxes)
        vectors = path.vectors(regions)
        losses.add("box", box_loss(path.box(vectors), sampled), len(regions))
        sampled = without_classes_from(sampled, len(self.groups[task]))
        gates, prior = self.pathways(batch.dense, self.classes_of(task), sampled.boxes)
        region, column, target = training_pairs(
            sampled.labels, sampled.image, prior, batch.generators, s.negatives
        )
        logits, activations, deltas = self.apply_experts(
            self.banks[-1],
            self.decouple(regions, gates[region, column], region),
            column,
            prior[region, column],
        )
        if path.text is not None:
            text, text_logits = self.text_scores(path, vectors, task)
            previous = self.classes_of(task).start
            known = torch.where(sampled.labels < 0, BACKGROUND, sampled.labels + previous)
            losses.add("text", unbiased_cross_entropy(text_logits, known, previous), len(regions))
            logits = logits + text[region, column]
        losses.add("score", score_loss(logits, target, s.score_loss), target.sum())
        if deltas is not None:
            value = expert_box_loss(deltas, sampled, region, target)
            losses.add("expert_box", value, len(regions))
        if s.orthogonality == "regions" and s.orthogonality_weight:
            own, other = region_response_pairs(activations.mean(1), region, target, len(regions))
            before = self._previous_responses(batch, regions, sampled)
            value, count = self._region_orthogonality(
                activations, region, target, own, other, before
            )
            losses.add("orthogonality", s.orthogonality_weight * value, count)
        elif s.orthogonality == "maps" and s.orthogonality_weight:
            _, gate = self.gates(batch.dense, slice(0, len(self.text)))
            labels = [t["labels"] for t in batch.targets]
            value, count = map_orthogonality(levels["0"], gate, labels, self.classes_of(task).start)
            losses.add("orthogonality", s.orthogonality_weight * value, count)
        if self.reference is not None:
            losses["drift"] = s.drift_weight * drift_loss(
                path, self.reference, levels, batch.taps, s.drift
            )
        return losses

    def _guarded(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the targets, aware of what the previous model claims if the guard is on.

        Taught claims get the label behind the last current class: objects, but of no expert here.
        """
        if self.teacher is None:
            return batch.targets
        s = self.switches
        return guarded(
            batch.targets,
            self.teacher.detect(batch),
            s.relegation_guard,
            s.guard_threshold,
            s.guard_overlap,
            label=len(self.groups[-1]),
        )

    def _base_levels(self, taps: Sequence[Tensor]) -> OrderedDict[str, Tensor] | None:
        """Return task 1's levels where residual adapters build on them."""
        if len(self.paths) == 1 or self.switches.adapter != "residual":
            return None
        with torch.no_grad():
            return self.paths[0].levels(taps)

    @torch.no_grad()
    def _previous_responses(
        self, batch: Batch, regions: Tensor, sampled: SampledRegions
    ) -> Tensor | None:
        """Return, per positive region, the response of the previous class of the highest prior.

        Only where earlier experts read the same features: with a path per task they do not.
        """
        start = self.classes_of(len(self.groups) - 1).start
        if not start or len(self.paths) > 1 or not self.switches.experts:
            return None
        positive = torch.where(sampled.labels >= 0)[0]
        gates, prior = self.pathways(batch.dense, slice(0, start), sampled.boxes)
        best = prior[positive].argmax(1)
        responses = regions.new_zeros(len(positive), *regions.shape[-2:])
        for task, bank in enumerate(self.banks[:-1]):
            classes = self.classes_of(task)
            members = torch.where((best >= classes.start) & (best < classes.stop))[0]
            members = members[torch.argsort(best[members], stable=True)]
            region, column = positive[members], best[members]
            features = self.decouple(regions, gates[region, column], region)
            _, activation, _ = bank(features, column - classes.start, prior[region, column])
            responses[members] = activation.mean(1)
        return responses

    def _region_orthogonality(
        self,
        activations: Tensor,
        region: Tensor,
        target: Tensor,
        own: Tensor,
        other: Tensor,
        before: Tensor | None,
    ) -> tuple[Tensor, int]:
        if before is not None:
            positive = torch.where(target > 0)[0]
            positive = positive[torch.argsort(region[positive])]  # one positive pair per region
            own = torch.cat([own, activations[positive].mean(1)])
            other = torch.cat([other, before])
        return orthogonality_loss(own, other), len(own)

    @torch.no_grad()
    def labelled_routing(self, batch: Batch) -> list[Tensor]:
        """Return per current class what routing compares, in each of its ground-truth boxes."""
        classes = self.classes_of(len(self.groups) - 1)
        boxes = [target["boxes"] for target in batch.targets]
        labels = torch.cat([target["labels"] for target in batch.targets])
        cost = cost_volume(batch.dense, self.text[classes])
        value = self.routing(RegionMaps(cost, boxes, self.stride).means())
        return [value[labels == k, k] for k in range(classes.stop - classes.start)]

    # ---- inference --------------------------------------------------------------------------

    @torch.no_grad()
    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return detections per image; boxes on the canvas, labels = columns of seen classes."""
        candidates = []
        base = None
        for index, path in enumerate(self.paths):
            levels = path.levels(batch.taps, base)
            base = base or levels
            proposals, _ = path.propose(levels, batch.canvas)
            tasks = range(len(self.groups)) if len(self.paths) == 1 else [index]
            candidates += path_candidates(self, batch, path, levels, proposals, tasks)
        s = self.switches
        results = []
        for n in range(len(batch.canvas.image_sizes)):
            boxes, scores, columns = (
                torch.cat([part[n] for part in parts]) for parts in zip(*candidates, strict=True)
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
        return results
