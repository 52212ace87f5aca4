"""Temperatures and abstention thresholds, chosen on validation data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# Candidates, 1.7 % apart: finer than validation sets of some thousand faces can distinguish.
TEMPERATURES = tuple(float(t) for t in np.geomspace(0.25, 8.0, 201))


def fit_temperature(logits: Tensor, targets: Tensor, *, multi_label: bool = False) -> float:
    """Choose the temperature with the lowest cross-entropy against the targets.

    Args:
        logits: (N, K) float32, before softmax or sigmoid.
        targets: (N, K) float32 distribution over K, or yes/no of each of K.
        multi_label: whether the columns are independent.
    """
    if multi_label:
        losses = [float(functional.binary_cross_entropy_with_logits(logits / t, targets)) for t in TEMPERATURES]
    else:
        losses = [float(functional.cross_entropy(logits / t, targets)) for t in TEMPERATURES]
    return TEMPERATURES[int(np.argmin(losses))]


def abstention_threshold(
    confidence: NDArray[np.float32], correct: NDArray[np.bool_], wanted_accuracy: float
) -> float | None:
    """Choose the lowest confidence at which the answers with as much or more reach an accuracy.

    Args:
        confidence: (N,) of each answer.
        correct: (N,) whether it was right.
        wanted_accuracy: of the answers with at least the threshold's confidence.

    Returns:
        The threshold; 0.0 where all answers together reach the accuracy, None where no threshold does.
    """
    order = np.argsort(-confidence, kind="stable")
    running = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(running >= wanted_accuracy)
    if len(good) == 0:
        return None
    return 0.0 if good[-1] == len(order) - 1 else float(confidence[order[good[-1]]])
