"""CL-CLIP: cost-volume decoupling into class pathways and a multi-expert RoI head."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from clclip.clip.cost_volume import cost_volume
from clclip.detection.inputs.dataset import FeatureBatches
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.distillation import unbiased_cross_entropy
from clclip.detection.layers.guard import apply_guard
from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.region_maps import RegionMaps
from clclip.detection.layers.regions import (
    BACKGROUND,
    SampledRegions,
    box_loss,
    sample_regions,
    select_detections,
    without_classes_from,
)
from clclip.detection.layers.text_score import TRAINING_WEIGHT
from clclip.detection.methods.clclip.fit_rest import fit_rest
from clclip.detection.methods.clclip.inference import run_paths
from clclip.detection.methods.clclip.losses import (
    drift_loss,
    expert_box_loss,
    map_orthogonality,
    score_loss,
)
from clclip.detection.methods.clclip.orthogonality import orthogonality_loss, region_response_pairs
from clclip.detection.methods.clclip.pairs import training_pairs
from clclip.detection.methods.clclip.pathways import Pathways
from clclip.detection.methods.detector import DetectorInputs, Prediction
from clclip.detection.options.clclip import ClClipOptions
from clclip.training.shares import Losses

CALIBRATION_IMAGES, IMAGES_PER_PASS = 64, 16


class ClClip(Pathways):
    """CL-CLIP over the class groups of tasks 1..t (its parts: see ``Pathways``).

    Args:
        inputs: feature sizes, class groups and text embeddings.
        options: the method's options.
    """

    def __init__(self, inputs: DetectorInputs, options: ClClipOptions) -> None:
        super().__init__(inputs, options)
        # the path before this task for the drift term, the model before it for the guard
        object.__setattr__(self, "reference", None)
        object.__setattr__(self, "teacher", None)

    reference: SharedPath | None
    teacher: ClClip | None

    # ---- life cycle -------------------------------------------------------------------------

    def begin_task(self) -> None:
        """Freeze the parts of earlier tasks and prepare those of this one; call after loading."""
        shared, first = self.options.shared, len(self.groups) == 1
        self.requires_grad_(False)
        self.banks[-1].requires_grad_(True)
        self.gate.requires_grad_(first)
        if first or shared != "frozen":
            self.paths[-1].requires_grad_(True)
        if shared == "adapters" and not first:
            line = [k for k, of in enumerate(self.origins[:-1]) if of == self.origins[-1]]
            start = line[-1 if self.options.path_start == "previous" else 0]
            self.paths[-1].start_from(self.paths[start])
        if shared == "drift" and not first:
            # not a submodule: it belongs to this run, not to the weights
            reference = copy.deepcopy(self.paths[0]).requires_grad_(False)
            object.__setattr__(self, "reference", reference)
        with_guard = self.options.relegation_guard != "off" and shared in ("drift", "free")
        if with_guard and not first:
            object.__setattr__(self, "teacher", self._previous_model())
        if (text := self.paths[-1].text) is not None:
            text.gamma.fill_(TRAINING_WEIGHT)  # a copied path brings the weight it detects with

    def _previous_model(self) -> ClClip:
        """Return a frozen copy that knows the previous classes only."""
        teacher = copy.deepcopy(self).eval().requires_grad_(False)
        start = self.classes_of(len(self.groups) - 1).start
        teacher.text, teacher.groups = self.text[:start], self.groups[:-1]
        return teacher

    def new_tensors(self) -> list[str]:
        """Return the names of this task's experts and, where it has one, of its own path."""
        task = len(self.groups) - 1
        own = (f"paths.{task}.", f"banks.{task}.", f"rests.{task}.")
        return [name for name in self.state_dict() if name.startswith(own)]

    @torch.no_grad()
    def calibrate(self, batches: FeatureBatches) -> None:
        """Start the gate's affine from the cost volume of the first training images."""
        first = min(CALIBRATION_IMAGES, len(batches.images))
        costs = [
            self.gates(b.dense, self.classes_of(0))[0] for b in self._in_passes(batches, first)
        ]
        self.gate.calibrate(torch.cat(costs))

    def fitted(self, batches: FeatureBatches) -> dict[str, Tensor]:
        """Fix what a trained task detects with.

        That is the routing thresholds of its classes, from its own labelled boxes, the weight of
        the text score, and on which images the task's path may rest.
        """
        bank = self.banks[-1]
        if self.options.experts:
            passes = self._in_passes(batches, len(batches.images))
            routed = [self.labelled_routing(batch) for batch in passes]
            values = [torch.cat(parts) for parts in zip(*routed, strict=True)]
            shares = self.options.route in ("share", "text")
            bank.set_thresholds(values, self.options.route_recall, shares=shares)
        fitted = {f"banks.{len(self.banks) - 1}.threshold": bank.threshold}
        if (text := self.paths[-1].text) is not None:
            text.gamma.fill_(self.options.text_weight)
            fitted[f"paths.{len(self.paths) - 1}.text.gamma"] = text.gamma
        place = len(self.paths) - 1
        if (rest := self.rest_of(place)) is not None:
            fit_rest(self, rest, place, self._in_passes(batches, len(batches.images)))
            fitted |= {f"rests.{place}.{name}": value for name, value in rest.state_dict().items()}
        return fitted

    def _in_passes(self, batches: FeatureBatches, count: int) -> Iterator[Batch]:
        """Yield the first ``count`` images, few at a time: features made as it goes are large."""
        for start in range(0, count, IMAGES_PER_PASS):
            members = range(start, min(start + IMAGES_PER_PASS, count))
            yield batches.plain(members).to(self.device)

    @torch.no_grad()
    def class_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Return cost volume and gate of the seen classes."""
        cost, gate = self.gates(batch.dense, slice(0, len(self.text)))
        return {"cost volume": cost, "gate": gate}

    # ---- training ---------------------------------------------------------------------------

    def losses(self, batch: Batch) -> Losses:
        """Return the named, weighted losses of a batch (item 7), and what each is a mean over."""
        s, path, last = self.options, self.paths[-1], len(self.groups) - 1
        levels = path.levels(batch.taps, self._base_levels(batch.taps))
        targets = self._guard_targets(batch)
        proposals, losses = path.propose(levels, batch.canvas, targets, batch.generators)
        sampled = sample_regions(proposals, targets, batch.generators, s.roi_batch, s.roi_positive)
        regions = path.regions(levels, sampled.boxes)
        vectors = path.vectors(regions)
        losses.add("box", box_loss(path.box(vectors), sampled), len(regions))
        sampled = without_classes_from(sampled, len(self.groups[last]))
        gates, prior = self.pathways(batch.dense, self.classes_of(last), sampled.boxes)
        region, column, target = training_pairs(
            sampled.labels, sampled.image, prior, batch.generators, s.negatives
        )
        read = regions.detach() if s.detach_experts else regions
        logits, activations, deltas = self.apply_experts(
            self.banks[-1],
            self.decouple(read, gates[region, column], region),
            column,
            prior[region, column],
        )
        if path.text is not None:
            text, text_logits = self.text_scores(path, vectors, last)
            previous = self.classes_of(last).start
            known = torch.where(sampled.labels < 0, BACKGROUND, sampled.labels + previous)
            losses.add("text", unbiased_cross_entropy(text_logits, known, previous), len(regions))
            logits = path.text.join(logits, text[region, column])
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
            value, count = map_orthogonality(levels["0"], gate, labels, self.classes_of(last).start)
            losses.add("orthogonality", s.orthogonality_weight * value, count)
        if self.reference is not None:
            losses["drift"] = s.drift_weight * drift_loss(
                path, self.reference, levels, batch.taps, s.drift
            )
        return losses

    def _guard_targets(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Return the targets with the previous model's unexplained detections if the guard is on.

        Added detections are labelled behind the last current class: objects, but of no expert here.
        """
        if self.teacher is None:
            return batch.targets
        s = self.options
        return apply_guard(
            batch.targets,
            self.teacher.detect(batch),
            s.relegation_guard,
            s.guard_threshold,
            s.guard_overlap,
            label=len(self.groups[-1]),
        )

    def _base_levels(self, taps: Sequence[Tensor]) -> OrderedDict[str, Tensor] | None:
        """Return the levels of the line's first task where residual adapters build on them."""
        if len(self.paths) == 1 or self.options.adapter != "residual":
            return None
        with torch.no_grad():
            return self.paths[self.origins[-1]].levels(taps)

    @torch.no_grad()
    def _previous_responses(
        self, batch: Batch, regions: Tensor, sampled: SampledRegions
    ) -> Tensor | None:
        """Return, per positive region, the response of the previous class of the highest prior.

        Only where earlier experts read the same features: with a path per task they do not.
        """
        start = self.classes_of(len(self.groups) - 1).start
        if not start or len(self.paths) > 1 or not self.options.experts:
            return None
        positive = torch.where(sampled.labels >= 0)[0]
        gates, prior = self.pathways(batch.dense, slice(0, start), sampled.boxes)
        best = prior[positive].argmax(1)
        responses = regions.new_zeros(len(positive), *regions.shape[-2:])
        for index, bank in enumerate(self.banks[:-1]):
            classes = self.classes_of(index)
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
        """Return per current class the routing values in its ground-truth boxes."""
        classes = self.classes_of(len(self.groups) - 1)
        boxes = [target["boxes"] for target in batch.targets]
        labels = torch.cat([target["labels"] for target in batch.targets])
        cost = cost_volume(batch.dense, self.text[classes])
        value = self.routing(RegionMaps(cost, boxes, self.stride).means())
        return [value[labels == k, k] for k in range(classes.stop - classes.start)]

    # ---- inference --------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, batch: Batch) -> Prediction:
        """Return detections, and the proposals of every path."""
        made = list(run_paths(self, batch, range(len(self.paths))))
        candidates = [own for one in made for own in one.candidates]
        s = self.options
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
        return Prediction(results, [one.proposals for one in made])
