"""Losses of the branches; all take logits and soft targets of one shape, so that mixed features are no special case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LossName = Literal["cross_entropy", "age", "years", "binary"]

GROUP_PRIOR = 20.0  # faces
_NARROW = 0.05  # years; a Gaussian that is 0 in all other years
# Per year: an error of five years weighs about as much as one unit of cross-entropy.
AGE_L1_WEIGHT = 0.2
# Deviation of the Gaussian that a branch of ages puts around the year that it regresses; calibration scales it.
YEARS_DEVIATION = 5.0


def age_distribution(years: Tensor, classes: int, spread_years: float) -> Tensor:
    """Spread each age over its neighbours: (N,) years to (N, classes) that sum to 1.

    Source: Gao et al. 2017, 'Deep Label Distribution Learning with Label Ambiguity' (Gaussian of fixed spread).
    """
    ages = torch.arange(classes, dtype=torch.float32, device=years.device)
    return torch.softmax(-0.5 * ((ages - years[:, None].float()) / spread_years) ** 2, dim=1)


def age_span_distribution(first: Tensor, last: Tensor, classes: int, spread_years: float) -> Tensor:
    """Spread ranges of ages over their years and, falling like a Gaussian, over their neighbours.

    Args:
        first: (N,) first year of each range.
        last: (N,) last year; a range of one year gives what ``age_distribution`` gives.
        classes: years 0..classes - 1.
        spread_years: of the Gaussian beyond both ends; 0 gives nothing to years outside, one year alone is one-hot.
    """
    spread_years = max(spread_years, _NARROW)
    ages = torch.arange(classes, dtype=torch.float32, device=first.device)
    outside = torch.relu(first[:, None].float() - ages) + torch.relu(ages - last[:, None].float())
    return torch.softmax(-0.5 * (outside / spread_years) ** 2, dim=1)


def expected_age(probabilities: Tensor) -> Tensor:
    """Return the mean of each distribution over ages 0, 1, 2, ...: (N, K) to (N,) years."""
    ages = torch.arange(probabilities.shape[1], dtype=probabilities.dtype, device=probabilities.device)
    return probabilities @ ages


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Turn (N,) class numbers into (N, classes) float32."""
    return functional.one_hot(labels.long(), classes).float()


def cross_entropy_rows(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the cross-entropy of each row against soft targets: (N,); ``weights`` (K,) multiply each class's share."""
    return -(targets * weights * functional.log_softmax(logits.float(), dim=1)).sum(dim=1)


def age_rows(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the cross-entropy of each row's distribution plus the absolute error of its mean: (N,).

    Source: Gao et al. 2018, 'Age Estimation Using Expectation of Label Distribution Learning'.
    """
    error = (expected_age(torch.softmax(logits.float(), dim=1)) - expected_age(targets)).abs()
    return cross_entropy_rows(logits, targets, weights) + AGE_L1_WEIGHT * error


def years_rows(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the squared error of the mean of each row's distribution, over twice YEARS_DEVIATION squared: (N,).

    It is the negative logarithm, but for a constant, of the density of a Gaussian with that deviation.
    """
    del weights  # of classes, which a regression has none of
    error = expected_age(torch.softmax(logits.float(), dim=1)) - expected_age(targets)
    return 0.5 * (error / YEARS_DEVIATION) ** 2


def binary_terms(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the binary cross-entropy of each label of each row: (N, K).

    Args:
        logits: (N, K).
        targets: (N, K) 0..1.
        weights: (K,) of the columns, or (2, K) of their faces without and with the label, see ``answer_weights``.
    """
    if weights.dim() == 1:
        plain: Tensor = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return plain * weights
    without, having = weights
    absent, present = functional.softplus(logits.float()), functional.softplus(-logits.float())
    weighed: Tensor = (1 - targets) * without * absent + targets * having * present
    return weighed


def binary_rows(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of ``binary_terms`` of each row: (N,)."""
    return binary_terms(logits, targets, weights).mean(dim=1)


# (N, K) logits, (N, K) targets and (K,) weights to (N,) losses.
ROW_LOSSES: dict[LossName, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy_rows,
    "age": age_rows,
    "years": years_rows,
    "binary": binary_rows,
}


def _mean_of(rows: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda logits, targets, weights: rows(logits, targets, weights).mean()


# The same, averaged over the rows.
LOSSES: dict[LossName, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    name: _mean_of(rows) for name, rows in ROW_LOSSES.items()
}


def effective_number_weights(targets: Tensor, beta: float = 0.999) -> Tensor:
    """Weigh classes by the inverse of their effective number of examples: (N, K) targets to (K,) weights.

    The weights average 1 over the classes. Classes without an example weigh as much as those with one.

    Args:
        targets: shares or yes/no of each class.
        beta: 0 weighs all classes alike; towards 1 the weights become the inverse counts.

    Source: Cui et al. 2019, 'Class-Balanced Loss Based on Effective Number of Samples'.
    """
    counts = targets.sum(dim=0).clamp(min=1)
    weights = (1 - beta) / (1 - beta**counts)
    return weights / weights.mean()


def class_weights(targets: Tensor, balance: float) -> Tensor:
    """Weigh the columns of (N, K) targets by their share to the power of ``-balance``; rows weigh 1 on average."""
    share = targets.mean(dim=0).clamp(min=1e-4)
    weights = share**-balance
    return weights / (weights * share).sum() * share.sum()


def answer_weights(targets: Tensor) -> Tensor:
    """Weigh, for each column of (N, K) targets, the rows with and without its label: (2, K), without and with.

    Both kinds of rows weigh as much in all, as they do in batches that are drawn for this column with as many of
    either; rows weigh 1 on average. No row of one kind leaves its weight at that of a single row.
    """
    having = targets.mean(dim=0)
    without = 1 - having
    floor = 1 / max(len(targets), 1)
    return 0.5 / torch.stack([without, having]).clamp(min=floor)


def logit_offset(targets: Tensor, strength: float = 1.0) -> Tensor:
    """Return the logarithm of each class's share: (N, K) targets to (K,).

    Added to the logits while training, it makes a branch learn rare classes as if they were frequent.

    Args:
        targets: of the training rows.
        strength: 1 aims at balanced accuracy, 0 at accuracy.

    Source: Menon et al. 2021, 'Long-Tail Learning via Logit Adjustment'; Ren et al. 2020, 'Balanced Meta-Softmax'.
    """
    share = targets.mean(dim=0).clamp(min=1e-6)
    return strength * (share / share.sum()).log()


def group_logit_offset(targets: Tensor, groups: Tensor, strength: float = 1.0) -> Tensor:
    """Return ``logit_offset`` by group, so that a group's own shares are not learnt: (N, K) targets to (N, K).

    Small groups lean on the shares of all, as if each had GROUP_PRIOR more faces of these shares.

    Args:
        targets: of the training rows; rows of zeros count for nothing.
        groups: (N,) number of each row's group, from 0.
        strength: see ``logit_offset``.
    """
    overall = targets.mean(dim=0).clamp(min=1e-6)
    counts = targets.new_zeros(int(groups.max()) + 1, targets.shape[1]).index_add(0, groups, targets)
    counts += GROUP_PRIOR * overall / overall.sum()
    return (strength * (counts / counts.sum(dim=1, keepdim=True)).log())[groups]


def sampling_weights(targets: Tensor, balance: float) -> Tensor:
    """Return the probability with which each row is drawn: (N, K) targets to (N,) that sum to 1.

    Args:
        targets: shares of each class; rows of zeros are never drawn.
        balance: 0 draws all rows alike, 1 all classes alike; else a class by its share to the power of 1 - balance.
    """
    share = targets.mean(dim=0).clamp(min=1e-12)
    weights = targets @ share**-balance
    return weights / weights.sum()


def draw_rows(targets: Tensor, count: int, balance: float, generator: torch.Generator) -> Tensor:
    """Draw the (count,) rows of one epoch with replacement, by ``sampling_weights``."""
    return torch.multinomial(sampling_weights(targets, balance), count, replacement=True, generator=generator)
