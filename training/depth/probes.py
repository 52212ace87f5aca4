"""Probes on pooled features: kernel ridge regression, solved exactly, so that no learning rate blurs a comparison.

A Gaussian kernel makes the probe as able as a small two-layer network. One kernel matrix serves all folds, strengths
and tasks of a data set, and a fold is one Cholesky factorisation: seconds where training a network takes minutes.
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

TRAIN, JUDGE, TEST = 0, 1, 2
"""What a row is to a fold's probe: learnt from, chooses the strength, or scored."""
JUDGED_SHARE = 0.1
"""Share of a fold's other rows that choose its strength and are not learnt from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How probes are fitted."""

    linear: bool = False
    """Whether the probe is linear; else it has a Gaussian kernel as wide as faces are apart on average."""
    strengths: tuple[float, ...] = (0.03, 0.1, 0.5)
    """Ridges that are tried, where a face's kernel with itself is 1; each fold takes what its judging rows like best.
    Weaker and stronger ones were worse at the two depths tried."""


def assign_folds(count: int, folds: int, seed: int, groups: NDArray[np.generic] | None = None) -> NDArray[np.int64]:
    """Give N rows a fold each; rows of one group (a person) share it.

    Args:
        count: N.
        folds: how many.
        seed: of the shuffling.
        groups: (N,) names; None lets every row stand alone.

    Returns:
        (N,) 0..folds - 1, of nearly equal sizes.
    """
    random = np.random.default_rng(seed)
    members = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    fold_of = random.permutation(int(members.max(initial=-1)) + 1) % folds
    return np.asarray(fold_of[members], dtype=np.int64)


def roles(fold: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int8]:
    """Say what each row is to each fold's probe: (folds, N) of TRAIN, JUDGE and TEST."""
    random = np.random.default_rng(seed)
    judging = random.random((folds, len(fold))) < JUDGED_SHARE
    found = np.where(judging, JUDGE, TRAIN)
    found[fold, np.arange(len(fold))] = TEST
    return found.astype(np.int8)


def kernel(features: NDArray[np.float16], options: ProbeOptions) -> Tensor:
    """Compare every face with every other: (N, ...) features to (N, N) float32, with 1 on the diagonal's average.

    Each feature is brought to mean 0 and deviation 1 over all rows first; no label is looked at.
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
class Question:
    """What a probe is asked: targets, and what judges the predictions."""

    targets: Tensor
    """(N, K) float32."""
    score: Callable[[Tensor, Tensor], float]
    """Judges (M, K) predictions against (M, K) targets; higher is better."""


def cross_validate(
    similar: Tensor, questions: Sequence[Question], fold_roles: NDArray[np.int8], options: ProbeOptions
) -> list[tuple[float, ...]]:
    """Fit a probe for each fold and strength; score each fold with the strength that its judging rows chose.

    Args:
        similar: (N, N) from ``kernel``.
        questions: about the same N faces; they share the factorisations, which cost most.
        fold_roles: (F, N), see ``roles``.
        options: how to fit.

    Returns:
        For each question F scores on the rows that the fold's probe has not seen.
    """
    targets = torch.cat([question.targets for question in questions], dim=1)
    folds = [_fold_scores(similar, targets, questions, torch.from_numpy(role), options) for role in fold_roles]
    return list(zip(*folds, strict=True))


def _fold_scores(
    similar: Tensor, targets: Tensor, questions: Sequence[Question], role: Tensor, options: ProbeOptions
) -> list[float]:
    """Return each question's score in one fold."""
    learnt, judged, tested = (torch.nonzero(role == which)[:, 0] for which in (TRAIN, JUDGE, TEST))
    centre = targets[learnt].mean(dim=0)
    known = similar[learnt][:, learnt]
    asked = torch.cat([judged, tested])
    crossed = similar[asked][:, learnt]
    best = [(-math.inf, -math.inf)] * len(questions)
    for strength in options.strengths:
        factor = torch.linalg.cholesky(known + strength * torch.eye(len(learnt)))
        said = crossed @ torch.cholesky_solve(targets[learnt] - centre, factor) + centre
        answers = torch.split(said, [question.targets.shape[1] for question in questions], dim=1)
        for place, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            found = question.score(answer[: len(judged)], question.targets[judged])
            if found > best[place][0]:
                best[place] = (found, question.score(answer[len(judged) :], question.targets[tested]))
    return [score for _, score in best]
