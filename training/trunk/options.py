"""Options of a trunk's training: objective, optimiser, learning rates, the faces that judge it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.errors import RecipeError
from training.fit.augment import AugmentOptions
from training.fit.descent import Descent, OptimiserName, ScheduleName, half_cosine

if TYPE_CHECKING:
    from training.trunk.losses import Objective

PAPER_DEVIATION = 0.01  # of the normal start weights in the paper of face24
_RISE = 0.05  # share of the steps in which the rate of the schedule `cosine` rises


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityOptions:
    """Options of a trunk's training; the defaults of batch, steps, optimiser and rate are those of the paper."""

    objective: Objective = "softmax"
    steps: int = 40_000
    """At most, see `patience`."""
    batch: int = 400
    optimiser: OptimiserName = "sgd"
    learning_rate: float = 0.1
    """Of the first step with the schedule `quarters`, the peak with `cosine`."""
    schedule: ScheduleName = "quarters"
    decay_every: int = 10_000
    """Steps after which the schedule `quarters` divides the learning rate by four."""
    momentum: float = 0.9
    """Of the optimiser `sgd`."""
    weight_decay: float = 1e-4
    """Our choice; the paper gives none."""
    start_deviation: float | None = None
    """Standard deviation of the normal distribution from which convolutions and linear layers start, PAPER_DEVIATION in
    the paper; None keeps the start that torch gives each layer."""
    least_images: int = 2
    """Of a person; people with fewer are not learnt."""
    held_out: int = 5
    """Faces of each person that are not learnt from and judge the trunk, of people with at least twice as many;
    without people, see `held_share`."""
    held_share: float = 0.02
    """Share of the faces that judge a distilled trunk."""
    evaluate_every: int = 500
    """Steps between two evaluations on the held-out faces; the weights that score best are kept."""
    patience: int = 20
    """Evaluations without a better score after which training stops."""
    augment: AugmentOptions = field(default_factory=lambda: AugmentOptions(erase=0.0, coarse=0.1))
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.decay_every, self.evaluate_every, self.patience, self.checkpoint_every)
        if min(counts) < 1 or self.held_out < 0 or not 0 <= self.held_share < 1:
            raise RecipeError(
                f"got steps, batch, decay, evaluations, patience and checkpoints {counts}, {self.held_out} faces held "
                f"out and a share of {self.held_share}; expected counts from 1 on, faces from 0 on, a share below 1"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rise = max(1, round(self.steps * _RISE))
        if self.schedule != "cosine":
            return self.learning_rate * self.descent.share(step, self.steps)
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        return self.learning_rate * half_cosine((step - rise) / max(1, self.steps - rise))

    @property
    def descent(self) -> Descent:
        """Optimiser and schedule."""
        return Descent(
            optimiser=self.optimiser, schedule=self.schedule, decay_every=self.decay_every, momentum=self.momentum
        )


@torch.no_grad()
def start_normal(module: nn.Module, deviation: float) -> None:
    """Draw the weights of all convolutions and linear layers from N(0, deviation²), with biases of zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.normal_(std=deviation)
            if layer.bias is not None:
                layer.bias.zero_()
