"""The visual classifier: none, centroids, a cosine-linear layer, refined prototypes (SE-VPR)."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.classification.options import CLASSIFIERS, ClassificationOptions
from clclip.classification.records import Record
from clclip.classification.seca.baselines import new_linear
from clclip.classification.seca.frozen import raw_prototypes
from clclip.classification.seca.parts.context import Context, Step, TaskData
from clclip.classification.seca.parts.visual import VisualSide
from clclip.classification.seca.sevpr import Refinement, consistency_loss
from clclip.classification.seca.statistics import fitted_drift
from clclip.training.seeds import generator

logger = logging.getLogger(__name__)


def refines(options: ClassificationOptions) -> bool:
    """Tell whether refined prototypes take part in training."""
    if options.classifier in CLASSIFIERS:
        return options.visual_loss == "sevpr"
    return options.classifier == "sevpr"


class VisualClassifier:
    """What classifies images beside the text, and its losses.

    Attributes:
        refinement: SE-VPR's, where the method has it.
        raw: (K, d) raw prototypes of the seen classes.

    Args:
        context: the task.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.modules: dict[str, nn.Module] = {}
        self.parameters: dict[str, nn.Parameter] = {}
        self.refinement: nn.Module | None = None
        options, width = context.options, context.tower.embed_dim
        if refines(options):
            draw = generator(context.seed, "refinement")
            refinement = Refinement(width, options.gamma, draw)
            self.refinement = context.restored("refinement", refinement)
            self.modules["refinement"] = self.refinement
        if options.classifier == "linear":
            linear = new_linear(context.new, width, context.draw("linear"))
            self.parameters["linear"] = nn.Parameter(linear.data.to(context.device))

    def begin(self, data: TaskData) -> None:
        """Compute the raw prototypes; read the refined ones of earlier tasks."""
        self.data, memory = data, self.context.memory
        self.raw_new = raw_prototypes(data.frozen.raw, data.labels, self.context.new)
        old = memory.rows("raw")
        device = self.context.device
        self.raw = self.raw_new if old is None else torch.cat([old.to(device), self.raw_new])
        refined = memory.refined()
        self.stored = None if refined is None else refined.to(device)

    def losses(self, step: Step) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return L_ce-V and L_reg, and the refined prototypes (K, d) where there are any."""
        options, scale = self.context.options, self.context.scale
        if self.refinement is not None:
            refined = self.refinement(step.text, self.raw)
            logits = scale * step.student @ refined[step.first :].T
            losses = {"ce_visual": F.cross_entropy(logits, step.targets)}
            if self.stored is not None:
                reg = consistency_loss(self.stored, refined[: self.context.old])
                losses["consistency"] = options.consistency * reg
            return losses, refined
        if options.classifier == "linear":
            weights = F.normalize(self.parameters["linear"], dim=-1)
            logits = scale * step.student @ weights.T
            return {"ce_visual": F.cross_entropy(logits, step.labels)}, None
        return {}, None

    def record(self, text: Tensor, visual: VisualSide, replayed: bool) -> Record:
        """Return what the task stores of its prototypes and statistics.

        Args:
            text: (K, d) embeddings of all seen classes.
            visual: the visual side.
            replayed: old classes were replayed, so their refined prototypes may be stored anew;
                without replay they stay as they were.
        """
        record: Record = {"raw": self.raw_new}
        if self.refinement is not None:
            refined = self.refinement(text, self.raw)
            record["refined"] = refined if replayed else refined[self.context.old :]
            record["affinity"] = self.refinement.affinity(text)
        if "linear" in self.parameters:
            record["linear"] = self.parameters["linear"]
        if self.context.options.classifier == "adapted_centroid":
            features = visual.adapted(self.data, visual.adapters)
            record["centroid"] = raw_prototypes(features, self.data.labels, self.context.new)
        return record | self._statistics(visual)

    def _statistics(self, visual: VisualSide) -> Record:
        """Return the inputs of a closed form: unit features, labels, and how features moved."""
        context, options = self.context, self.context.options
        if options.classifier not in CLASSIFIERS:
            return {}
        after = F.normalize(visual.adapted(self.data, visual.adapters), dim=-1)
        record: Record = {"features": after, "labels": self.data.labels}
        size = after.numel() * after.element_size() / 2**20
        logger.info("features of %d images, %.3f MiB", len(after), size)
        moves = options.adapt == "all" and options.statistics == "moved"
        if not moves or visual.adapters is None or context.task == 1:
            return record
        earlier = visual.snapshot(context.task - 1)
        before = F.normalize(visual.adapted(self.data, earlier), dim=-1)
        drift = fitted_drift(before.cpu().numpy(), after.cpu().numpy())
        record["drift.map"] = torch.from_numpy(drift.map).float()
        record["drift.shift"] = torch.from_numpy(drift.shift).float()
        return record
