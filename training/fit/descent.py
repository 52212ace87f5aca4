"""Optimisers and courses of the learning rate, for branches, joint runs and trunks alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from training.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

OptimiserName = Literal["sgd", "adam", "adamw"]
# cosine: a rise, then half a cosine to zero; quarters: the rate is divided by four again and again, as in the paper of
# face24; constant: the rate stays.
ScheduleName = Literal["cosine", "quarters", "constant"]

_RISE = 0.08  # share of the steps in which the rate of `cosine` rises
_FIRST_RATE = 0.04  # share of the peak rate in the first step of `cosine`


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """How weights follow their gradients; the peak of the rate and the decay of weights are options of the training."""

    optimiser: OptimiserName = "adamw"
    schedule: ScheduleName = "cosine"
    decay_every: int = 10_000
    """Steps after which the schedule `quarters` divides the rate by four."""
    momentum: float = 0.9
    """Of the optimiser `sgd`."""

    def __post_init__(self) -> None:
        if self.decay_every < 1 or not 0 <= self.momentum < 1:
            found = f"decay after {self.decay_every} steps, momentum {self.momentum}"
            raise RecipeError(f"got {found}; expected 1 step or more, momentum from 0 to below 1")

    def share(self, step: int, steps: int) -> float:
        """Return the share of the peak rate in a step, counted from 0, of so many."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "quarters":
            return float(4.0 ** -(step // self.decay_every))
        return one_cycle(step / steps)

    def optimise(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[Mapping[str, Any]],
        rate: float,
        weight_decay: float,
        *,
        fused: bool = False,
    ) -> torch.optim.Optimizer:
        """Return the optimiser of some parameters, or of groups of them with rates of their own.

        Args:
            parameters: each in one group at most.
            rate: of those without a rate of their own.
            weight_decay: as a share of the weight; SGD and Adam add it to the gradient, AdamW takes it off the weight.
            fused: whether one kernel takes the step, which is faster for few weights and rounds otherwise.
        """
        given: Any = parameters
        if self.optimiser == "sgd":
            return torch.optim.SGD(given, rate, self.momentum, weight_decay=weight_decay, fused=fused or None)
        kind = torch.optim.Adam if self.optimiser == "adam" else torch.optim.AdamW
        return kind(given, rate, weight_decay=weight_decay, fused=fused or None)


def one_cycle(progress: float, rise: float = _RISE, first: float = _FIRST_RATE) -> float:
    """Return the share of the peak rate at a share of the steps: a linear rise from `first`, then half a cosine."""
    if progress < rise:
        return first + (1 - first) * progress / rise
    return half_cosine((progress - rise) / (1 - rise))


def half_cosine(progress: float) -> float:
    """Fall from 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))
