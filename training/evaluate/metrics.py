"""Figures of merit, each with the number of faces that it is measured on and a bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.generic]

# Bootstrap resamples: the ends of a 95 % interval are then known to about a tenth of its width.
DRAWS = 1000
# Equal-width bins of confidence, as in Guo et al. 2017, 'On Calibration of Modern Neural Networks'.
CALIBRATION_BINS = 15
# Below it a probability counts as this: one answer that is certain and wrong would else make a mean infinite.
MIN_PROBABILITY = 1e-7
_DRAWN_AT_ONCE = 1 << 22  # row numbers: 32 MB


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value."""

    value: float
    low: float
    """2.5 % quantile of the bootstrap."""
    high: float
    """97.5 % quantile of the bootstrap."""
    count: int
    """Faces (or pairs, or images) that it was measured on."""

    @classmethod
    def without_interval(cls, value: float, count: int = 0) -> Figure:
        """Return a value whose interval is not known."""
        return cls(value, float("nan"), float("nan"), count)


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
        return Figure.without_interval(float("nan"))
    random = np.random.default_rng(seed)
    samples = (random.integers(0, count, count) for _ in range(draws))
    values = [statistic(*(column[rows] for column in columns)) for rows in samples]
    low, high = np.nanquantile(values, (0.025, 0.975)) if values else (float("nan"), float("nan"))
    return Figure(statistic(*columns), float(low), float(high), count)


def measure_mean(values: Array, draws: int = DRAWS, seed: int = 0) -> Figure:
    """Average N values, with the 95 % bootstrap interval of ``measure``, many resamples at a time."""
    count = len(values)
    if count == 0:
        return Figure.without_interval(float("nan"))
    values = np.asarray(values, dtype=np.float64)
    means = np.concatenate([values[rows].mean(axis=1) for rows in resamples(count, draws, seed)])
    low, high = np.quantile(means, (0.025, 0.975))
    return Figure(float(values.mean()), float(low), float(high), count)


def resamples(count: int, draws: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Draw rows with replacement, many resamples at a time.

    Args:
        count: N, rows to draw from.
        draws: resamples in all.
        seed: of the drawing.

    Yields:
        (D, N) row numbers, D resamples.
    """
    random = np.random.default_rng(seed)
    step = max(1, _DRAWN_AT_ONCE // count)
    for start in range(0, draws, step):
        yield random.integers(0, count, (min(step, draws - start), count))


def true_positives_at(similarity: NDArray[np.float32], same: NDArray[np.bool_], false_positives: float) -> float:
    """Return the share of same pairs above the lowest threshold that at most a given share of the other pairs exceeds.

    It is not a number where pairs of one kind are missing.
    """
    if same.all() or not same.any():
        return float("nan")
    others = np.sort(similarity[~same])[::-1]
    allowed = int(false_positives * len(others))
    threshold = others[min(allowed, len(others) - 1)]
    return float(np.mean(similarity[same] > threshold))


def accuracy(predicted: Array, truth: Array) -> float:
    """Return the share of rows that are right."""
    return float(np.mean(predicted == truth))


def balanced_accuracy(predicted: Array, truth: Array) -> float:
    """Return the mean recall of the classes that occur."""
    return float(np.mean([np.mean(predicted[truth == label] == label) for label in np.unique(truth)]))


def cross_entropy(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (N,) negative logarithms of the true classes' probabilities, in nats: (N, K), (N,) class numbers."""
    return -np.log(np.maximum(probabilities[np.arange(len(truth)), truth].astype(np.float64), MIN_PROBABILITY))


def binary_cross_entropy(probabilities: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the (N, K) negative logarithms of the probabilities of the true answers, in nats: both (N, K)."""
    right = np.where(truth, probabilities, 1 - probabilities.astype(np.float64))
    return -np.log(np.maximum(right, MIN_PROBABILITY))


def mean_absolute_error(predicted: Array, truth: Array) -> float:
    """Return the mean of the absolute differences."""
    return float(np.mean(np.abs(np.subtract(predicted, truth))))


def root_mean_square_error(predicted: Array, truth: Array) -> float:
    """Return the root of the mean squared difference."""
    return float(np.sqrt(np.mean(np.square(np.subtract(predicted, truth)))))


def coverage(low: Array, high: Array, truth: Array) -> float:
    """Return the share of rows whose interval holds the truth."""
    return float(np.mean(np.logical_and(np.less_equal(low, truth), np.less_equal(truth, high))))


def mean_column_accuracy(probabilities: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Return the mean accuracy of K yes/no columns: (N, K) probabilities against (N, K) 0 or 1."""
    return float(np.mean((probabilities > 0.5) == (truth > 0.5)))


def balanced_column_accuracy(probabilities: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Return the mean balanced accuracy of the columns in which both answers occur."""
    predicted, yes = probabilities > 0.5, truth > 0.5
    columns = [k for k in range(yes.shape[1]) if yes[:, k].any() and not yes[:, k].all()]
    found = [balanced_accuracy(predicted[:, k], yes[:, k]) for k in columns]
    return float(np.mean(found)) if found else float("nan")


def calibration_error(confidence: NDArray[np.float32], correct: Array) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy over bins, weighted by rows."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    weight = np.bincount(bins, minlength=CALIBRATION_BINS)
    gap = np.bincount(bins, weights=confidence - correct.astype(np.float64), minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / max(weight.sum(), 1))
