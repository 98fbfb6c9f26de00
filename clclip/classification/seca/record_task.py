"""The end of a task: what a learner leaves behind (keys: see ``records.py``)."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.classification.pixels import over_batches
from clclip.classification.records import Record
from clclip.classification.seca.frozen import EVAL_BATCH
from clclip.classification.seca.learner import Learner
from clclip.classification.seca.replay import fit_gaussians, log_memory
from clclip.classification.seca.sevpr import raw_prototypes
from clclip.classification.seca.sgakt import next_pool
from clclip.classification.seca.statistics import CLASSIFIERS, fitted_drift

logger = logging.getLogger(__name__)


@torch.no_grad()
def task_record(learner: Learner) -> Record:
    """Return the record of the learner's task."""
    record: Record = {}
    for name, module in learner.modules.items():
        record |= {f"{name}.{key}": value for key, value in module.named_parameters()}
    text = _text(learner, record)
    record["raw"] = learner.raw_new
    if "refinement" in learner.modules:
        refinement = learner.modules["refinement"]
        refined = refinement(text, learner.raw)
        # Replay sees all classes, so it may refresh old rows; without it they stay as they were.
        record["refined"] = refined if learner.gaussians is not None else refined[learner.old :]
        record["affinity"] = refinement.affinity(text)
    if "linear" in learner.trained:
        record["linear"] = learner.trained["linear"]
    _features(learner, record)
    _statistics(learner, record)
    _pool(learner, record, text[learner.old :])
    return record


def _text(learner: Learner, record: Record) -> Tensor:
    """Store the text side; return all seen classes' embeddings (K, d) under the last prompt."""
    if learner.template is not None:
        return learner.template
    text = learner.text(learner.prompt)
    record["prompt"], record["text"] = learner.prompt, text
    if learner.text_before is not None:
        record["text_before"] = learner.text_before
    return text


def _features(learner: Learner, record: Record) -> None:
    """Store means and Gaussians of adapted features where the method asks for them."""
    options = learner.options
    if options.classifier != "adapted_centroid" and options.replay == "none":
        return
    features = _adapted(learner, learner.adapters)
    record["centroid"] = raw_prototypes(features, learner.labels, learner.new)
    if options.replay == "gaussian":
        fitted = fit_gaussians(
            features, learner.labels, learner.new, options.covariance, options.rank
        )
        log_memory(fitted, options.covariance, options.rank)
        record["gaussian.mean"] = fitted.mean
        record["gaussian.factor"], record["gaussian.spread"] = fitted.factor, fitted.spread


def _adapted(learner: Learner, adapters: nn.ModuleList | None) -> Tensor:
    """Return the features (N, d) of the task's images under adapters, not normalised."""
    return over_batches(
        len(learner.images),
        EVAL_BATCH,
        lambda rows: learner.tower.feature(learner.stem(torch.tensor(rows)), adapters),
    )


def _statistics(learner: Learner, record: Record) -> None:
    """Store what a closed form sums over: unit features and labels; and how features moved."""
    options = learner.options
    if options.classifier not in CLASSIFIERS:
        return
    after = F.normalize(_adapted(learner, learner.adapters), dim=-1)
    record["features"], record["labels"] = after, learner.labels
    size = after.numel() * after.element_size() / 2**20
    logger.info("features of %d images, %.3f MiB", len(after), size)
    moves = options.counts("statistics") and options.statistics == "moved"
    if not moves or learner.adapters is None or learner.task == 1:
        return
    before = F.normalize(_adapted(learner, learner.snapshot(learner.task - 1)), dim=-1)
    drift = fitted_drift(before.cpu().numpy(), after.cpu().numpy())
    record["drift.map"] = torch.from_numpy(drift.map).float()
    record["drift.shift"] = torch.from_numpy(drift.shift).float()


def _pool(learner: Learner, record: Record, current: Tensor) -> None:
    """Store which snapshots stay and, for SG-AKT, each one's relevance by class (K_new, P)."""
    options = learner.options
    if learner.adapters is None or learner.settled or options.distillation == "none":
        return
    utility = learner.trained.get("utility")
    values = None if utility is None else utility.data
    pool = next_pool(learner.pool, learner.task, values, options.pool, options.evict)
    record["pool"] = torch.tensor(pool, dtype=torch.int64)
    if values is None:
        return
    rows = torch.arange(len(learner.images), device=learner.device)
    _, relevance = learner.teacher(rows, current[learner.labels])
    sums = torch.zeros(learner.new, len(learner.pool), device=learner.device)
    sums.index_add_(0, learner.labels, relevance)
    counts = torch.bincount(learner.labels, minlength=learner.new)
    record["relevance"] = sums / counts[:, None]
    record["relevance_tasks"] = torch.tensor(learner.pool, dtype=torch.int64)
    record["utility"] = values
