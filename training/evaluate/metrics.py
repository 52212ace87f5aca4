"""Figures of merit, each with the number of faces behind it and a bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.generic]

DRAWS = 1000
"""Bootstrap resamples: the ends of a 95 % interval are then known to about a tenth of its width."""
CALIBRATION_BINS = 15
"""Equal-width bins of confidence, as in Guo et al. 2017, 'On Calibration of Modern Neural Networks'."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value."""

    value: float
    low: float
    """2.5 % quantile of the bootstrap."""
    high: float
    """97.5 % quantile of the bootstrap."""
    count: int
    """Faces (or pairs, or photos) that it was measured on."""


def measure(statistic: Callable[..., float], *columns: Array, draws: int = DRAWS, seed: int = 0) -> Figure:
    """Evaluate a statistic of N rows, and its 95 % bootstrap interval over rows.

    Args:
        statistic: takes the columns and returns one number.
        columns: arrays whose leading dimension is N.
        draws: resamples; 0 leaves the interval NaN.
        seed: of the resampling, so that a figure repeats.
    """
    count = len(columns[0])
    if count == 0:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    random = np.random.default_rng(seed)
    samples = (random.integers(0, count, count) for _ in range(draws))
    values = [statistic(*(column[rows] for column in columns)) for rows in samples]
    low, high = np.nanquantile(values, (0.025, 0.975)) if values else (float("nan"), float("nan"))
    return Figure(statistic(*columns), float(low), float(high), count)


_CHUNK = 1 << 22
"""Values drawn at once when means are resampled: 32 MB."""


def measure_mean(values: Array, draws: int = DRAWS, seed: int = 0) -> Figure:
    """Average N values, with the 95 % bootstrap interval of ``measure``, many resamples at a time."""
    count = len(values)
    if count == 0:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    random = np.random.default_rng(seed)
    values = np.asarray(values, dtype=np.float64)
    step = max(1, _CHUNK // count)
    parts = [min(step, draws - start) for start in range(0, draws, step)]
    means = np.concatenate([values[random.integers(0, count, (part, count))].mean(axis=1) for part in parts])
    low, high = np.quantile(means, (0.025, 0.975))
    return Figure(float(values.mean()), float(low), float(high), count)


def true_positives_at(similarity: NDArray[np.float32], same: NDArray[np.bool_], false_positives: float) -> float:
    """Share of same pairs that are accepted at the lowest threshold accepting at most a share of the other pairs.

    Not a number where pairs of one kind are missing.
    """
    if same.all() or not same.any():
        return float("nan")
    others = np.sort(similarity[~same])[::-1]
    allowed = int(false_positives * len(others))
    threshold = others[min(allowed, len(others) - 1)]
    return float(np.mean(similarity[same] > threshold))


def accuracy(predicted: Array, truth: Array) -> float:
    """Share of rows that are right."""
    return float(np.mean(predicted == truth))


def balanced_accuracy(predicted: Array, truth: Array) -> float:
    """Mean over the classes that occur of the share of each that is found."""
    return float(np.mean([np.mean(predicted[truth == label] == label) for label in np.unique(truth)]))


def mean_absolute_error(predicted: Array, truth: Array) -> float:
    """Mean of the absolute differences."""
    return float(np.mean(np.abs(np.subtract(predicted, truth))))


def root_mean_square_error(predicted: Array, truth: Array) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.mean(np.square(np.subtract(predicted, truth)))))


def coverage(low: Array, high: Array, truth: Array) -> float:
    """Share of rows whose interval holds the truth."""
    return float(np.mean(np.logical_and(np.less_equal(low, truth), np.less_equal(truth, high))))


def mean_column_accuracy(probabilities: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean over K yes/no columns of the share of rows that are right: (N, K) probabilities against (N, K) 0 or 1."""
    return float(np.mean((probabilities > 0.5) == (truth > 0.5)))


def balanced_column_accuracy(probabilities: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean over the columns in which both answers occur of the balanced accuracy of each."""
    said, yes = probabilities > 0.5, truth > 0.5
    columns = [k for k in range(yes.shape[1]) if yes[:, k].any() and not yes[:, k].all()]
    found = [balanced_accuracy(said[:, k], yes[:, k]) for k in columns]
    return float(np.mean(found)) if found else float("nan")


def calibration_error(confidence: NDArray[np.float32], correct: Array) -> float:
    """Expected calibration error: mean gap between confidence and accuracy over bins, weighted by their rows."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    weight = np.bincount(bins, minlength=CALIBRATION_BINS)
    gap = np.bincount(bins, weights=confidence - correct.astype(np.float64), minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / max(weight.sum(), 1))
