"""Figures of agreement under a stratified sample, with intervals of 95 %.

A face weighs as many appearances as its stratum has for each of its labelled faces. Accuracy has Wilson's interval with
Kish's effective size; the others have percentiles of a bootstrap within strata.

Sources: Wilson, Probable inference, JASA 22 (1927); Kish, Survey Sampling (1965); Cohen, A coefficient of agreement for
nominal scales (1960); McGraw and Wong, Forming inferences about some intraclass correlation coefficients (1996),
ICC(A,1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Measure = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], float | None]

RESAMPLES = 1000
SEED = 20_001  # the same labels give the same intervals
NORMAL_QUANTILE = 1.959964  # 97.5 % of the normal distribution
MIN_FOR_INTERVAL = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its interval; None where it is not defined."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """Two answers for each of N faces: codes of labels, or years."""

    truth: Floats
    """(N,) of people."""
    other: Floats
    """(N,) of the head."""
    weight: Floats
    """(N,) appearances that a face stands for."""
    stratum: Ints
    """(N,)"""

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Answers:
        return Answers(self.truth[rows], self.other[rows], self.weight[rows], self.stratum[rows])


def accuracy(answers: Answers) -> Figure | None:
    """Return the share of equal answers, with Wilson's interval."""
    if not len(answers):
        return None
    weight = answers.weight / answers.weight.sum()
    share = float(answers.weight[answers.truth == answers.other].sum() / answers.weight.sum())
    size = 1 / float((weight**2).sum())
    middle, spread = (
        share + NORMAL_QUANTILE**2 / (2 * size),
        NORMAL_QUANTILE * np.sqrt(share * (1 - share) / size + NORMAL_QUANTILE**2 / (4 * size**2)),
    )
    low, high = (middle - spread) / (1 + NORMAL_QUANTILE**2 / size), (middle + spread) / (1 + NORMAL_QUANTILE**2 / size)
    return Figure(share, max(float(low), 0.0), min(float(high), 1.0))


def kappa(truth: Floats, other: Floats, weight: Floats) -> float | None:
    """Return Cohen's kappa; None where only one label was given."""
    labels = np.unique(np.concatenate([truth, other]))
    shares = weight / weight.sum()
    first = np.array([shares[truth == label].sum() for label in labels])
    second = np.array([shares[other == label].sum() for label in labels])
    chance = float((first * second).sum())
    if len(np.unique(truth)) < 2 or chance >= 1:
        return None
    return (float(shares[truth == other].sum()) - chance) / (1 - chance)


def mean_error(truth: Floats, other: Floats, weight: Floats) -> float | None:
    """Return the mean absolute difference."""
    return float(np.average(np.abs(other - truth), weights=weight))


def bias(truth: Floats, other: Floats, weight: Floats) -> float | None:
    """Return the mean difference; positive where the head gives more years than people."""
    return float(np.average(other - truth, weights=weight))


def icc(truth: Floats, other: Floats, weight: Floats) -> float | None:
    """Return ICC(A,1): absolute agreement of single answers; None where it is not defined."""
    count = len(truth)
    if count < 3:
        return None
    weight = weight * (count / weight.sum())
    middle = (truth + other) / 2
    grand = float((weight * middle).sum() / count)
    columns = [float((weight * side).sum() / count) for side in (truth, other)]
    rows = 2 * float((weight * (middle - grand) ** 2).sum()) / (count - 1)
    sides = count * sum((column - grand) ** 2 for column in columns)
    left = sum(
        float((weight * (side - middle - column + grand) ** 2).sum())
        for side, column in zip((truth, other), columns, strict=True)
    ) / (count - 1)
    whole = rows + left + 2 * (sides - left) / count
    return (rows - left) / whole if whole > 0 else None


def with_interval(measure: Measure, answers: Answers) -> Figure | None:
    """Return a figure with percentiles of a bootstrap within strata; without an interval for fewer than two faces."""
    value = measure(answers.truth, answers.other, answers.weight) if len(answers) else None
    if value is None:
        return None
    if len(answers) < MIN_FOR_INTERVAL:
        return Figure(value)
    random = np.random.default_rng(SEED)
    members = [np.flatnonzero(answers.stratum == stratum) for stratum in np.unique(answers.stratum)]
    found = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([random.choice(one, len(one)) for one in members])
        again = measure(answers.truth[rows], answers.other[rows], answers.weight[rows])
        found += [] if again is None else [again]
    if len(found) < RESAMPLES / 2:
        return Figure(value)
    low, high = np.percentile(found, [2.5, 97.5])
    return Figure(value, float(low), float(high))
