"""What a set of images adds up to: all that the closed-form classifiers know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Sums:
    """Sums over images with features h of width M, in K classes.

    Attributes:
        gram: (M, M) sum of h h^T.
        cross: (M, K) sum of h over the images of each class.
        counts: (K,) images of each class.
    """

    gram: Array
    cross: Array
    counts: Array

    @classmethod
    def of(cls, hidden: Array, labels: Array, classes: int) -> Sums:
        """Return the sums of features (N, M) with labels (N,) in 0..classes-1, in float64."""
        hidden = np.asarray(hidden, dtype=np.float64)
        targets = one_hot(labels, classes)
        return cls(hidden.T @ hidden, hidden.T @ targets, targets.sum(axis=0))

    def __sub__(self, other: Sums) -> Sums:
        """Return the sums without some of the images; the classes are the same."""
        return Sums(self.gram - other.gram, self.cross - other.cross, self.counts - other.counts)

    @property
    def images(self) -> float:
        """The number of images."""
        return float(self.counts.sum())

    @property
    def means(self) -> Array:
        """The mean (K, M) of each class; of a class without images zero."""
        return (self.cross / np.maximum(self.counts, 1)).T

    def covariance(self) -> Array:
        """Return the covariance (M, M) within classes: scatter / (N - K)."""
        means = self.means
        scatter = self.gram - (means * self.counts[:, None]).T @ means
        return scatter / max(self.images - np.count_nonzero(self.counts), 1)


def joined(parts: Sequence[Sums]) -> Sums:
    """Return the sums of several tasks, whose classes follow each other."""
    return Sums(
        sum(part.gram for part in parts[1:]) + parts[0].gram,
        np.concatenate([part.cross for part in parts], axis=1),
        np.concatenate([part.counts for part in parts]),
    )


def one_hot(labels: Array, classes: int) -> Array:
    """Return targets (N, K) of labels (N,)."""
    targets = np.zeros((len(labels), classes))
    targets[np.arange(len(labels)), labels] = 1
    return targets
