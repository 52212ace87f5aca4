"""Probes on pooled features: kernel ridge regression, solved exactly, so that no learning rate blurs a comparison.

With a Gaussian kernel a probe is as able as a small model of two layers. One kernel matrix serves all folds, strengths
and tasks of a data set, and a fold is one Cholesky factorisation: seconds where training a model takes minutes.
Source: Saunders et al. 1998, 'Ridge Regression Learning Algorithm in Dual Variables'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

# Role of a row for the probe of a fold: it is learnt from, chooses the strength, or is scored.
TRAIN, VALIDATE, TEST = 0, 1, 2
VALIDATION_SHARE = 0.1  # of the rows outside a fold: they choose its strength and are not learnt from


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """Kernel and ridges of probes."""

    linear: bool = False
    """Whether the probe is linear; else its kernel is a Gaussian as wide as the mean distance of two faces."""
    strengths: tuple[float, ...] = (0.03, 0.1, 0.5)
    """Ridges that are tried, where the kernel of a face with itself is 1; each fold takes the one that scores best on
    its validation rows. Weaker and stronger ones were worse at the two depths tried."""


def assign_folds(count: int, folds: int, seed: int, groups: NDArray[np.generic] | None = None) -> NDArray[np.int64]:
    """Assign a fold to each of N rows; rows of one group (a person) share it.

    Args:
        count: N.
        folds: number of folds.
        seed: of the shuffling.
        groups: (N,) names; None makes every row a group.

    Returns:
        (N,) 0..folds - 1, of nearly equal sizes.
    """
    random = np.random.default_rng(seed)
    members = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    fold_of = random.permutation(int(members.max(initial=-1)) + 1) % folds
    return np.asarray(fold_of[members], dtype=np.int64)


def roles(fold: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int8]:
    """Return the role of each row for the probe of each fold: (folds, N) of TRAIN, VALIDATE and TEST."""
    random = np.random.default_rng(seed)
    validating = random.random((folds, len(fold))) < VALIDATION_SHARE
    found = np.where(validating, VALIDATE, TRAIN)
    found[fold, np.arange(len(fold))] = TEST
    return found.astype(np.int8)


def kernel(features: NDArray[np.float16], options: ProbeOptions) -> Tensor:
    """Compute the kernel of all pairs of faces: (N, ...) features to (N, N) float32, with a mean of 1 on the diagonal.

    Each feature is brought to mean 0 and deviation 1 over all rows first; no label is used.
    """
    x = torch.from_numpy(np.asarray(features, dtype=np.float32).reshape(len(features), -1))
    deviation, mean = torch.std_mean(x, dim=0)
    x = (x - mean) / deviation.clamp(min=1e-3)
    products = x @ x.T
    if options.linear:
        return products / products.diagonal().mean()
    squares = products.diagonal()
    distances = (squares[:, None] + squares - 2 * products).clamp(min=0)
    return torch.exp(-distances / distances.mean())


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Targets of a probe, and the score of its predictions."""

    targets: Tensor
    """(N, K) float32."""
    score: Callable[[Tensor, Tensor], float]
    """Of (M, K) predictions against (M, K) targets; higher is better."""


def cross_validate(
    similar: Tensor, wanted: Sequence[ProbeTarget], fold_roles: NDArray[np.int8], options: ProbeOptions
) -> list[tuple[float, ...]]:
    """Fit a probe for each fold and strength; score each fold with the strength that its validation rows chose.

    Args:
        similar: (N, N) from ``kernel``.
        wanted: targets of the same N faces; they share the factorisations, which cost most.
        fold_roles: (F, N), see ``roles``.
        options: of the fit.

    Returns:
        For each of the targets F scores, on the rows that the probe of the fold has not learnt from.
    """
    targets = torch.cat([each.targets for each in wanted], dim=1)
    folds = [_fold_scores(similar, targets, wanted, torch.from_numpy(role), options) for role in fold_roles]
    return list(zip(*folds, strict=True))


def _fold_scores(
    similar: Tensor, targets: Tensor, wanted: Sequence[ProbeTarget], role: Tensor, options: ProbeOptions
) -> list[float]:
    """Return the score of each of the targets in one fold."""
    learnt, validated, tested = (torch.nonzero(role == which)[:, 0] for which in (TRAIN, VALIDATE, TEST))
    centre = targets[learnt].mean(dim=0)
    known = similar[learnt][:, learnt]
    others = torch.cat([validated, tested])
    crossed = similar[others][:, learnt]
    best = [(-math.inf, -math.inf)] * len(wanted)
    for strength in options.strengths:
        factor = torch.linalg.cholesky(known + strength * torch.eye(len(learnt)))
        predicted = crossed @ torch.cholesky_solve(targets[learnt] - centre, factor) + centre
        answers = torch.split(predicted, [each.targets.shape[1] for each in wanted], dim=1)
        for place, (each, answer) in enumerate(zip(wanted, answers, strict=True)):
            found = each.score(answer[: len(validated)], each.targets[validated])
            if found > best[place][0]:
                best[place] = (found, each.score(answer[len(validated) :], each.targets[tested]))
    return [score for _, score in best]
