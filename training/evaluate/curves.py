"""Confusion matrices and curves: calibration (confidence against accuracy) and abstention (risk against coverage)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from training.evaluate.metrics import CALIBRATION_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Shares of the faces, most confident first, at which a curve has a point.
COVERAGES = tuple(share / 20 for share in range(1, 21))
CurveKind = Literal["calibration", "abstention"]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of each answer for each true label."""

    data: str
    task: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """A row for each true label, a column for each answer."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one curve."""

    data: str
    task: str
    kind: CurveKind
    """calibration: confidence to accuracy. abstention: share answered to the share of these answers that is wrong, or
    to the mean absolute error of these ages."""
    x: tuple[float, ...]
    y: tuple[float, ...]
    counts: tuple[int, ...]
    """Faces that each point is measured on."""


def confusion(
    data: str, task: str, labels: tuple[str, ...], predicted: NDArray[np.int64], truth: NDArray[np.int64]
) -> Confusion:
    """Count the answers by true label."""
    size = len(labels)
    counts = np.bincount(truth * size + predicted, minlength=size * size).reshape(size, size)
    return Confusion(data, task, labels, tuple(tuple(row) for row in counts.tolist()))


def calibration_curve(data: str, task: str, confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> Curve:
    """Compare confidence and accuracy in CALIBRATION_BINS equal bins, without the empty ones."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    present = np.unique(bins)
    x = tuple(float(confidence[bins == b].mean()) for b in present)
    y = tuple(float(correct[bins == b].mean()) for b in present)
    return Curve(data, task, "calibration", x, y, tuple(int((bins == b).sum()) for b in present))


def abstention_curve(data: str, task: str, confidence: NDArray[np.float32], losses: NDArray[np.float32]) -> Curve:
    """Compute the error of the most confident answers, for growing shares of the faces.

    Args:
        data: name of the data set.
        task: name of the task.
        confidence: (N,) larger where the head is more certain; any scale.
        losses: (N,) 1 where it is wrong and 0 where it is right, or errors in years.

    Source: El-Yaniv and Wiener 2010, 'On the Foundations of Noise-Free Selective Classification'.
    """
    running = np.cumsum(losses[np.argsort(-confidence, kind="stable")], dtype=np.float64)
    counts = [max(1, round(share * len(losses))) for share in COVERAGES]
    risks = tuple(float(running[count - 1] / count) for count in counts)
    return Curve(data, task, "abstention", COVERAGES, risks, tuple(counts))
