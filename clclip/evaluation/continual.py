"""Numbers that only a task stream has: the score matrix, forgetting, averages.

Notation: after[i][name] is the score (AP or accuracy, percent) of a class after task i + 1, None
where the class has no test instances or has not been seen yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Scores = Mapping[str, float | None]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that exist, or None if there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def deviation(values: Sequence[float | None]) -> float | None:
    """Return the sample standard deviation (ddof 1), or None for fewer than two values."""
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def weighted_mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Return the mean weighted by numbers of images, or None if all weights are zero."""
    known = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None and w > 0]
    if not known:
        return None
    return float(sum(v * w for v, w in known) / sum(w for _, w in known))


def score_matrix(
    after: Sequence[Scores],
    groups: Sequence[Sequence[str]],
    counts: Mapping[str, int] | None = None,
    before: int = 0,
) -> list[list[float | None]]:
    """Return matrix[i][j]: the score after task i + 1 on the classes of task j + 1.

    Where the stream started from a model of ``before`` tasks, row i is that after task before + i +
    1; the columns are still those of all tasks.

    What lies right of the diagonal is None: groups not seen yet, and in a ``joint`` run, which
    learns all groups at once, those that P, C and A tell of.

    Args:
        after: per task, the scores of all classes seen so far.
        groups: class groups in task order.
        counts: test images per class. With them a group's score is the mean over images
            (accuracy), without them the mean over classes (AP).
        before: tasks that were learned elsewhere.
    """

    def group_score(scores: Scores, group: Sequence[str]) -> float | None:
        values = [scores.get(name) for name in group]
        if counts is None:
            return mean(values)
        return weighted_mean(values, [counts.get(name, 0) for name in group])

    return [
        [group_score(scores, group) if j <= i + before else None for j, group in enumerate(groups)]
        for i, scores in enumerate(after)
    ]


def forgetting_per_class(
    after: Sequence[Scores], groups: Sequence[Sequence[str]]
) -> dict[str, float | None]:
    """Return best score so far minus final score, for each class of the tasks before the last.

    "So far" ends before the last task, as in Chaudhry et al. (2018): with the final score among the
    best, forgetting could never be negative, and a mean over classes would count every chance loss
    but no chance gain, so that even a model that does not change would seem to forget. A class that
    the last task improved thus counts as negative forgetting.
    """
    lost: dict[str, float | None] = {}
    for name in [name for group in groups[:-1] for name in group]:
        past = [score for scores in after[:-1] if (score := scores.get(name)) is not None]
        final = after[-1].get(name)
        lost[name] = max(past) - final if past and final is not None else None
    return lost


def detection_forgetting(after: Sequence[Scores], groups: Sequence[Sequence[str]]) -> float | None:
    """Return the mean over classes of the tasks before the last; None for a stream of one task."""
    if len(after) < 2:
        return None
    return mean(list(forgetting_per_class(after, groups).values()))


def task_forgetting(matrix: Sequence[Sequence[float | None]]) -> float | None:
    """Return best minus last accuracy, averaged over the tasks before the last.

    The last column is the last task's; there are as many rows as tasks, or fewer where the stream
    started from a model.

    As for classes, the best is that before the last task. (For SECA's published logs, where no task
    improves later, it equals their diagonal minus their last row.)
    """
    if len(matrix) < 2:
        return None
    lost = []
    for column in range(len(matrix[-1]) - 1):
        past = [score for row in matrix[:-1] if (score := row[column]) is not None]
        final = matrix[-1][column]
        lost.append(max(past) - final if past and final is not None else None)
    return mean(lost)
