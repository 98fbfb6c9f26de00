"""Confidence intervals: of an accuracy, and of a paired difference between two experiments.

AP is not a mean over images, and the usual bootstrap is off-centre for it: an image that is drawn
twice counts twice, runs of equal detections lift the envelope of the precision-recall curve, and
the more so the noisier the curve. Here no image is drawn twice. Random *halves* of the test images
are scored: their spread is that of the whole set's score over test sets, and what a half scores
above the whole is about what the whole scores above a set without end (Politis, Romano and Wolf,
Subsampling, 1999). Coverage, measured on known populations: ``benchmarks/compare_coverage.py``.

Accuracy is a mean over images, for which there is a closed form that also holds where the two
hardly ever differ (Bonett and Price, 2012).

Several seeds are a sample of trainings: their spread is added to that of the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEVEL = 0.95


def accuracy_interval(right: int, images: int, samples: int = 2000) -> list[float] | None:
    """Return the 95 % bootstrap interval of an accuracy over test images, in percent.

    Drawing N images with replacement and counting the correctly classified is one binomial draw.

    Args:
        right: correctly classified images.
        images: all of them; None is returned for 0.
        samples: bootstrap samples.
    """
    if not images:
        return None
    drawn = np.random.default_rng(0).binomial(images, right / images, samples) / images
    return [100 * float(bound) for bound in np.quantile(drawn, (0.025, 0.975))]


@dataclass(frozen=True)
class Difference:
    """A minus B in points, with its confidence interval; None where it cannot be measured."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None


NOTHING = Difference(None, None, None, None, None)


def halves(images: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return (samples, images) bool: random halves of the images, each image at most once."""
    chosen = np.zeros((samples, images), dtype=bool)
    for row in chosen:
        row[rng.permutation(images)[: images // 2]] = True
    return chosen


def of_halves(whole: np.ndarray, drawn: np.ndarray, images: int) -> Difference:
    """Return the difference of scores that are no mean over images.

    Args:
        whole: (2, S) percent of A and B on all test images, per seed; NaN: nothing to measure.
        drawn: (2, S, N) percent on each of N halves of the images, the same halves for all;
            NaN: a half without an object.
        images: number of test images.
    """
    gaps, halves = whole[0] - whole[1], (drawn[0] - drawn[1]).mean(axis=0)
    if np.isnan(gaps).any():
        return NOTHING
    gap, halves = float(gaps.mean()), halves[~np.isnan(halves)]
    ends: tuple[float | None, float | None] = (None, None)
    if halves.size > 1:
        # Sets of m of n images vary by 1/m - 1/n, whole sets by 1/n; bias goes by 1/m and 1/n.
        # Of rough curves it falls more slowly, so the correction itself counts as a deviation.
        ratio = (images // 2) / (images - images // 2)
        bias = ratio * (float(halves.mean()) - gap)
        ends = _ends(gap - bias, ratio * float(halves.var(ddof=1)) + bias**2, images - 1, gaps)
    a, b = whole.mean(axis=1)
    return Difference(float(a), float(b), gap, *ends)


def of_images(right: np.ndarray) -> Difference:
    """Return the difference of two accuracies.

    Two images are added, one that only A and one that only B gets right: without them a test set
    on which the two never differ would have an interval of no width.

    Args:
        right: (2, S, n) bool, whether A and B got each image right, per seed.
    """
    images = right.shape[2]
    if images == 0:
        return NOTHING
    a, b = 100 * right.mean(axis=(1, 2))
    each = right.astype(np.float64)
    paired = np.append((each[0] - each[1]).mean(axis=0), [1.0, -1.0])
    gaps = 100 * (each[0] - each[1]).mean(axis=1)
    variance = 1e4 * float(paired.var()) / paired.size
    ends = _ends(100 * float(paired.mean()), variance, images + 1, gaps)
    return Difference(float(a), float(b), float(a - b), *ends)


def _ends(centre: float, variance: float, freedom: float, gaps: np.ndarray) -> tuple[float, float]:
    """Return the ends of the interval.

    Args:
        centre: its middle, in points.
        variance: of the mean over seeds, from the images.
        freedom: degrees of freedom of that variance.
        gaps: (S,) the difference of each seed: for several the variance of their mean is added, and
            the degrees of freedom are Satterthwaite's.
    """
    if gaps.size > 1:
        spread = float(gaps.var(ddof=1)) / gaps.size
        parts = variance**2 / freedom + spread**2 / (gaps.size - 1)
        variance += spread
        freedom = variance**2 / parts if parts > 0 else freedom
    reach = student((1 + LEVEL) / 2, freedom) * variance**0.5
    return max(-100.0, centre - reach), min(100.0, centre + reach)


def student(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t distribution, to 1e-4.

    Args:
        probability: in (0, 1).
        freedom: degrees of freedom, at least 1, not necessarily whole.
    """
    if freedom > 1000:  # the first term of its series in 1 / freedom: the grid below is too coarse
        z = NormalDist().inv_cdf(probability)
        return z + (z**3 + z) / (4 * freedom)
    # x = sqrt(freedom) tan(angle) turns the density into a power of the cosine
    angles = np.linspace(-np.pi / 2, np.pi / 2, 20_001)
    density = np.clip(np.cos(angles), 0, None) ** (freedom - 1)
    total = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(freedom**0.5 * np.tan(np.interp(probability * total[-1], total, angles)))
