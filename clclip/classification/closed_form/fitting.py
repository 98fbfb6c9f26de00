"""From records to a classifier, and the penalty of its ridge."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from clclip.classification.closed_form.joining import Balance
from clclip.classification.closed_form.learner import Solved, linear
from clclip.classification.closed_form.maps import Maps, chosen_penalty, seen
from clclip.classification.closed_form.seca_cov import joined_halves
from clclip.classification.closed_form.solver import holdout_penalty
from clclip.classification.closed_form.sums import joined, one_hot
from clclip.classification.features.records import Record

Array = np.ndarray

HELD_OUT = 0.2  # share of a task's images by which the published rule chooses the penalty


def solved(
    maps: Maps, records: Sequence[Record], counts: Sequence[int], text: Array | None
) -> Solved:
    """Return the classifier of all seen classes from the records of tasks 1..t.

    Args:
        maps: of features.
        records: one per task.
        counts: classes of each task.
        text: (K, d) unit text embeddings of the seen classes, or None.
    """
    options = maps.options
    known = seen(maps, records, counts)
    penalty = None
    if options.head in ("ridge", "joined"):
        penalty = options.penalty or _stored_penalty(records) or chosen_penalty(maps, known)
    if options.head == "joined":
        return joined_halves(maps, known, penalty or 0.0, text)
    first = linear(options, known.ridge, penalty)
    if options.head == "gda_text":
        balance = Balance(*map(float, records[0]["balance"]))
        return Solved(maps, first, text=text, balance=balance)
    return Solved(maps, first)


def _stored_penalty(records: Sequence[Record]) -> float | None:
    """Return the penalty that the newest task chose by the published rule, if any did."""
    return float(records[-1]["penalty"][0]) if "penalty" in records[-1] else None


def published_penalty(
    maps: Maps,
    earlier: Sequence[Record],
    counts: Sequence[int],
    features: Array,
    labels: Array,
    seed: int,
) -> float:
    """Return the penalty by RanPAC's rule: error on the last 20 % of the task's shuffled images.

    Args:
        maps: of features.
        earlier: records of the tasks before.
        counts: classes of each task, this one last.
        features: (V, N, d) of this task.
        labels: (N,) among its classes.
        seed: decides the shuffle, with the task's number.
    """
    digest = hashlib.sha256(f"holdout {seed} {len(counts)}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(len(labels))
    split = len(order) - max(1, round(HELD_OUT * len(order)))
    used, held = order[:split], order[split:]
    sums = maps.ridge_sums(features[:, used], labels[used], counts[-1])
    if earlier:
        sums = joined([seen(maps, earlier, counts[:-1]).ridge, sums])
    classes, start = int(sum(counts)), int(sum(counts[:-1]))
    targets = one_hot(labels[held] + start, classes)
    return holdout_penalty(sums.gram, sums.cross, maps.ridge_rows(features[:, held]), targets)
