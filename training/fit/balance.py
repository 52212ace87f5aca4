"""Options that favour rare classes while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.errors import RecipeError
from training.fit.losses import class_weights, draw_rows, effective_number_weights, logit_offset

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


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
    sampling: float = 0.0
    """An epoch draws as many faces as there are, with replacement, so that a class has its share to the power of one
    minus this; 1 draws all classes alike, 0 shows each face once. Joint recipes, whose branches share their batches,
    refuse it."""

    def __post_init__(self) -> None:
        if self.weight and self.effective_number:
            raise RecipeError(
                f"got weight {self.weight} and effective_number {self.effective_number}, expected one of them"
            )

    def weights(self, targets: Tensor) -> Tensor:
        """Return the (K,) weights of the columns of (N, K) training targets."""
        if self.effective_number:
            return effective_number_weights(targets, self.effective_number)
        return class_weights(targets, self.weight)

    def offset(self, targets: Tensor) -> Tensor:
        """Return the (K,) offsets of the logits while training on (N, K) targets."""
        return logit_offset(targets, self.adjust)

    def order(self, targets: Tensor, rows: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """Order the rows of an epoch: N rows with (N, K) targets to N rows."""
        if not self.sampling:
            return np.asarray(random.permutation(rows), dtype=np.int64)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        return np.asarray(rows[draw_rows(targets, len(rows), self.sampling, generator).numpy()], dtype=np.int64)
