"""Options that favour rare classes while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from training.errors import RecipeError
from training.fit.losses import answer_weights, class_weights, draw_rows, effective_number_weights, logit_offset

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

GroupName = Literal["gender", "ethnicity", "age"]  # ages by GROUP_AGES
GROUP_AGES = (3, 10, 15, 20, 30, 40, 50, 60, 70)  # first year of each band but the youngest

MAX_COPIES = 8  # of a face in an epoch; more would show little that is new


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How much rare classes are favoured; zeros change nothing, and options that are set act together."""

    weight: float = 0.0
    """The weight of a class in the loss is its share to the power of minus this; 1 weighs all classes alike."""
    effective_number: float = 0.0
    """Beta of ``losses.effective_number_weights``, such as 0.999, in place of ``weight``."""
    adjust: float = 0.0
    """Strength of ``losses.logit_offset``, which is added while training only; 1 aims at balanced accuracy. Only for
    labels that exclude each other."""
    within: tuple[GroupName, ...] = ()
    """Other labels of the same faces: ``adjust`` acts on the shares within each group of equal ones, so that a branch
    does not learn, for example, that the old are mostly men. Only for joint runs on sets that have these labels."""
    sampling: float = 0.0
    """An epoch draws as many faces as there are, with replacement, so that a class has its share to the power of one
    minus this; 1 draws all classes alike, 0 shows each face once. Joint recipes, whose branches share their batches,
    refuse it."""
    both_answers: bool = False
    """Whether, for each label that is read by itself, faces with and faces without it weigh as much as each other: what
    batches drawn for this label, with as many of either, give in expectation."""
    rare_below: float = 0.0
    """Share of the faces below which a label is rare. An epoch shows a face with a rare label this share divided by
    that of the label times, rounded down, at most ``MAX_COPIES`` times. Copies differ where faces are mirrored, mixed
    or augmented, shifts included."""

    def __post_init__(self) -> None:
        if self.weight and self.effective_number:
            raise RecipeError(
                f"got weight {self.weight} and effective_number {self.effective_number}, expected one of them"
            )
        if self.both_answers and (self.weight or self.effective_number):
            raise RecipeError("both answers of each label weigh alike, so labels cannot have weights of their own, too")
        if self.within and not self.adjust:
            raise RecipeError(f"got groups {self.within} within which nothing is adjusted; give adjust, too")
        if not 0 <= self.rare_below < 1:
            raise RecipeError(f"rare_below is a share of the faces from 0 to below 1, got {self.rare_below}")

    def weights(self, targets: Tensor) -> Tensor:
        """Return the weights of the columns of (N, K) training targets: (K,), or (2, K) of their two answers."""
        if self.both_answers:
            return answer_weights(targets)
        if self.effective_number:
            return effective_number_weights(targets, self.effective_number)
        return class_weights(targets, self.weight)

    def offset(self, targets: Tensor) -> Tensor:
        """Return the (K,) offsets of the logits while training on (N, K) targets."""
        return logit_offset(targets, self.adjust)

    def copies(self, targets: Tensor) -> NDArray[np.int64]:
        """Return how often an epoch shows each face of (N, K) training targets: (N,), 1 where it has no rare label."""
        share = targets.mean(dim=0).clamp(min=1e-12)
        times = (self.rare_below / share).floor().clamp(1, MAX_COPIES)
        return np.asarray(torch.where(targets > 0.5, times, 1.0).amax(dim=1).numpy(), dtype=np.int64)

    def order(self, targets: Tensor, rows: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """Order the rows of an epoch: N rows with (N, K) targets to N rows."""
        if not self.sampling:
            return np.asarray(random.permutation(rows), dtype=np.int64)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        return np.asarray(rows[draw_rows(targets, len(rows), self.sampling, generator).numpy()], dtype=np.int64)


UNBALANCED = Balance()
