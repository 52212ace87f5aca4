"""Losses of the branches: all take logits and soft targets of one shape, so that mixed features are no special case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LossName = Literal["cross_entropy", "age", "binary"]

AGE_L1_WEIGHT = 0.2
"""Per year: an error of five years weighs about as much as one unit of cross-entropy."""


def age_distribution(years: Tensor, classes: int, spread_years: float) -> Tensor:
    """Spread each age over its neighbours: (N,) years to (N, classes) that sum to 1.

    Source: Gao et al. 2017, 'Deep Label Distribution Learning with Label Ambiguity' (Gaussian of fixed spread).
    """
    ages = torch.arange(classes, dtype=torch.float32, device=years.device)
    return torch.softmax(-0.5 * ((ages - years[:, None].float()) / spread_years) ** 2, dim=1)


def expected_age(probabilities: Tensor) -> Tensor:
    """Mean of each distribution over ages 0, 1, 2, ...: (N, K) to (N,) years."""
    ages = torch.arange(probabilities.shape[1], dtype=probabilities.dtype, device=probabilities.device)
    return probabilities @ ages


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(N,) class numbers to (N, classes) float32."""
    return functional.one_hot(labels.long(), classes).float()


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy against soft targets; ``weights`` (K,) multiply each class's share."""
    return -(targets * weights * functional.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def age_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of the distribution plus the absolute error of its mean.

    Source: Gao et al. 2018, 'Age Estimation Using Expectation of Label Distribution Learning'.
    """
    error = (expected_age(torch.softmax(logits.float(), dim=1)) - expected_age(targets)).abs().mean()
    return cross_entropy(logits, targets, weights) + AGE_L1_WEIGHT * error


def binary(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean binary cross-entropy over rows and columns; ``weights`` (K,) multiply the columns."""
    losses = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return (losses * weights).mean()


LOSSES: dict[LossName, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "age": age_loss,
    "binary": binary,
}
