"""Early stopping of each label by itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from training.fit.losses import binary_terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class RestingLabels:
    """Which labels of a branch still learn, by the held-out loss of each.

    A label that rests gives no gradient. The layers that it shares with others still follow those.
    """

    def __init__(self, count: int, patience: int | None) -> None:
        """Begin with all labels learning.

        Args:
            count: of the labels, K.
            patience: evaluations without a smaller loss after which a label rests; None: never.
        """
        self._patience = patience
        self._best = torch.full((count,), math.inf)
        self._waited = torch.zeros(count)

    @property
    def learning(self) -> Tensor:
        """(K,) booleans: which labels still learn."""
        return self._waited < (math.inf if self._patience is None else self._patience)

    @property
    def all_rest(self) -> bool:
        """Whether no label learns any more."""
        return not bool(self.learning.any())

    def masked(self, weights: Tensor) -> Tensor:
        """Return (K,) or (2, K) weights of a loss, on their device, with zeros for labels that rest."""
        return weights if self._patience is None else weights * self.learning.to(weights)

    def update(self, logits: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Compare the held-out losses with the best ones.

        Args:
            logits: (M, K) of held-out rows, on the CPU.
            targets: (M, K) of theirs.
            weights: of the loss, without zeros for labels that rest.
        """
        if self._patience is None:
            return
        losses = binary_terms(logits, targets, weights.cpu()).mean(dim=0)
        better = (losses < self._best) & self.learning
        self._waited = torch.where(better, 0, self._waited + 1)  # of one that rests it only grows
        self._best = torch.where(better, losses, self._best)

    def state(self) -> list[list[float]]:
        """Return the best losses and the evaluations since, as JSON can hold them."""
        return [self._best.tolist(), self._waited.tolist()]

    def load(self, state: Sequence[Sequence[float]]) -> None:
        """Restore a state."""
        self._best, self._waited = (torch.tensor(values) for values in state)
