"""Confusion matrices and curves: calibration (confidence against accuracy) and abstention (risk against coverage)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from training.evaluate.metrics import CALIBRATION_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

COVERAGES = tuple(share / 20 for share in range(1, 21))
"""Shares of the faces, surest first, at which the error of the answers is kept."""
CurveKind = Literal["calibration", "abstention"]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label was answered for each true one."""

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
    """calibration: confidence to accuracy. abstention: share answered to share of these answers that is wrong, or to
    the mean absolute error of these ages."""
    x: tuple[float, ...]
    y: tuple[float, ...]
    counts: tuple[int, ...]
    """Faces behind each point."""


def confusion(
    data: str, task: str, labels: tuple[str, ...], said: NDArray[np.int64], truth: NDArray[np.int64]
) -> Confusion:
    """Count answers by true label."""
    size = len(labels)
    counts = np.bincount(truth * size + said, minlength=size * size).reshape(size, size)
    return Confusion(data, task, labels, tuple(tuple(row) for row in counts.tolist()))


def calibration_curve(data: str, task: str, confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> Curve:
    """Compare confidence and accuracy in CALIBRATION_BINS equal bins; empty bins are left out."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    present = np.unique(bins)
    x = tuple(float(confidence[bins == b].mean()) for b in present)
    y = tuple(float(correct[bins == b].mean()) for b in present)
    return Curve(data, task, "calibration", x, y, tuple(int((bins == b).sum()) for b in present))


def abstention_curve(data: str, task: str, sureness: NDArray[np.float32], losses: NDArray[np.float32]) -> Curve:
    """Say how wrong the surest faces' answers are, for growing shares of the faces.

    Args:
        data: name of the data set.
        task: name of the task.
        sureness: (N,) larger where the head is surer.
        losses: (N,) 1 where it is wrong and 0 where it is right, or errors in years.

    Source: El-Yaniv and Wiener 2010, 'On the Foundations of Noise-Free Selective Classification'.
    """
    running = np.cumsum(losses[np.argsort(-sureness, kind="stable")], dtype=np.float64)
    counts = [max(1, round(share * len(losses))) for share in COVERAGES]
    risks = tuple(float(running[count - 1] / count) for count in counts)
    return Curve(data, task, "abstention", COVERAGES, risks, tuple(counts))
