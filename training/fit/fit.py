"""Training of one branch on features of the frozen trunk."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from training.errors import RecipeError
from training.fit.balance import Balance
from training.fit.descent import Descent
from training.fit.losses import LOSSES, LossName
from training.fit.resting import RestingLabels
from training.fit.trainable_branch import follow_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from training.fit.features import Features

_log = logging.getLogger(__name__)

_EVAL_BATCH = 256
_RISE = 0.1  # share of the steps in which the rate of `cosine` rises
_OWN = (".stages.", ".tail.")  # parameters of a branch's own layers before its features


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """Options of a branch's training."""

    loss: LossName
    epochs: int = 12
    """At most: training stops early when the held-out score no longer grows."""
    patience: int = 4
    """Epochs without a better held-out score after which training stops."""
    batch: int = 128
    descent: Descent = field(default_factory=Descent)
    """Optimiser, and the course of the learning rate; joint runs have ``JointOptions.descent`` instead."""
    learning_rate: float = 1e-3
    """Peak."""
    stage_rate: float = 0.3
    """Learning rate of own layers before the features, as a share of that of the linear layers."""
    weight_decay: float = 0.05
    mirror: bool = True
    """Whether half of the faces are mirrored; False saves the second pass of the trunk."""
    mixup: float = 0.0
    """Parameter of the symmetric beta distribution that mixes pairs of examples; 0 mixes none."""
    noise: float = 0.0
    """Standard deviation of a random gain on each channel of each face, as a share of its value."""
    average: float = 0.998
    """Decay per step of the running mean of the weights; the running mean is kept."""
    balance: Balance = field(default_factory=Balance)
    """How rare classes are favoured."""
    label_patience: int | None = None
    """Evaluations without a smaller held-out loss of a label after which it rests: its column gives no gradient any
    more, while the others learn on. Only for labels that are read one by one; None: all learn to the end."""
    held_out: float = 0.05
    """Share of the training rows that is not learnt from and decides when to stop."""
    enlarge_to: int = 0
    """Faces that an epoch shows at least: where there are fewer, each is shown again, mirrored, mixed and with noise as
    the other options say."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss == "binary" and self.balance.adjust:
            raise RecipeError("the loss 'binary' cannot adjust logits: its labels do not exclude each other")
        if self.loss != "binary" and (self.balance.both_answers or self.label_patience is not None):
            raise RecipeError(
                f"the loss {self.loss!r} has one answer for all labels, so no label can be balanced or rest by itself"
            )


@dataclass(frozen=True, slots=True)
class Examples:
    """Features and soft targets of N faces."""

    features: Mapping[str, Features]
    """By depth."""
    targets: Tensor
    """(N, K) float32."""
    rows: NDArray[np.int64]
    """Rows of the features to train on; targets have N rows as well."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Result of a training."""

    score: float
    """Best held-out score."""
    epochs: int
    """Epochs until that score."""


def maps_of(features: Mapping[str, Features], rows: NDArray[np.int64], mirror: NDArray[np.bool_]) -> dict[str, Tensor]:
    """Read rows of every depth, each plain or mirrored: (B, C, h, w) half precision."""
    return {depth: found.batch(rows, mirror) for depth, found in features.items()}


def logits_of(
    branch: nn.Module, features: Mapping[str, Features], rows: NDArray[np.int64], *, mirrored: bool = False
) -> Tensor:
    """Apply a branch to plain or mirrored features of some rows: (M, K) float32 logits."""
    branch.eval()
    device = next(branch.parameters()).device
    mirror = np.full(_EVAL_BATCH, mirrored)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        batches = (maps_of(features, rows, mirror[: len(rows)]) for rows in _chunks(rows, _EVAL_BATCH))
        return torch.cat([branch(_bfloat16(maps, device)).float().cpu() for maps in batches])


def _bfloat16(maps: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {depth: found.to(device, torch.bfloat16, memory_format=torch.channels_last) for depth, found in maps.items()}


@dataclass(frozen=True, slots=True)
class Epoch:
    """Progress after an epoch."""

    number: int
    """From 1."""
    loss: float
    """Mean over its batches."""
    held_out: float
    """Score of the held-out rows."""
    best: float
    """Best of these scores so far."""


def fit(
    branch: nn.Module,
    examples: Examples,
    score: Callable[[Tensor, Tensor], float],
    options: FitOptions,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fit:
    """Train a branch in place and leave it with the averaged weights that scored best on the held-out rows.

    Args:
        branch: maps features by depth to (B, K) logits.
        examples: features and targets.
        score: of (M, K) logits against (M, K) targets; higher is better.
        options: of the training.
        on_epoch: is called after every epoch.
    """
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    rows = random.permutation(examples.rows)
    held = max(1, round(len(rows) * options.held_out))
    trained = _Training(branch, examples, rows[held:], options)
    best, state = Fit(-math.inf, 0), copy.deepcopy(branch.state_dict())
    for epoch in range(1, options.epochs + 1):
        loss = trained.epoch(random)
        logits, soft = logits_of(trained.average, examples.features, rows[:held]), examples.targets[rows[:held]]
        found = score(logits, soft)
        trained.resting.update(logits, soft, trained.weights)
        facts = {"action": "epoch", "epoch": epoch, "loss": round(loss, 4), "held_out": round(found, 4)}
        _log.info("trained an epoch", extra=facts)
        if found > best.score:
            best, state = Fit(found, epoch), copy.deepcopy(trained.average.state_dict())
        if on_epoch:
            on_epoch(Epoch(epoch, loss, found, best.score))
        if epoch - best.epochs >= options.patience or trained.resting.all_rest:
            break
    branch.load_state_dict(state)
    return best


def parameter_groups(branch: nn.Module, options: FitOptions) -> list[dict[str, Any]]:
    """Group the parameters: own layers before the features have a rate of their own."""
    named = list(branch.named_parameters())
    stages = [parameter for name, parameter in named if any(part in f".{name}" for part in _OWN)]
    linear = [parameter for name, parameter in named if not any(part in f".{name}" for part in _OWN)]
    groups = [{"params": linear, "lr": options.learning_rate}]
    if stages:
        groups.append({"params": stages, "lr": options.learning_rate * options.stage_rate})
    return groups


class _Training:
    """Optimiser, schedule and running mean of one training."""

    def __init__(self, branch: nn.Module, examples: Examples, rows: NDArray[np.int64], options: FitOptions) -> None:
        rows = np.repeat(rows, options.balance.copies(examples.targets[torch.from_numpy(rows)]))
        self.branch, self.examples, self.rows, self.options = branch, examples, rows, options
        self.device = next(branch.parameters()).device
        self.average = copy.deepcopy(branch).requires_grad_(requires_grad=False)
        self.targets = examples.targets[torch.from_numpy(rows)]
        self.weights = options.balance.weights(self.targets).to(self.device)
        self.offset = options.balance.offset(self.targets).to(self.device)
        self.resting = RestingLabels(self.targets.shape[1], options.label_patience)
        steps = options.epochs * max(1, max(len(rows), options.enlarge_to) // options.batch)
        groups = parameter_groups(branch, options)
        self.optimiser = options.descent.optimise(groups, options.learning_rate, options.weight_decay, fused=True)
        self.schedule = schedule(self.optimiser, options.descent, steps)
        self.steps = 0

    def epoch(self, random: np.random.Generator) -> float:
        """Train on as many rows as there are, or as the options want, in random order; return the mean loss."""
        self.branch.train()
        order = self.options.balance.order(self.targets, self.rows, random)
        if self.options.enlarge_to > len(order):
            order = random.permutation(np.resize(order, self.options.enlarge_to))
        full = max(1, len(order) // self.options.batch) * self.options.batch  # a last, smaller batch is left out
        losses = [self._step(batch, random) for batch in _chunks(order[:full], self.options.batch)]
        return float(np.mean(losses))

    def _step(self, batch: NDArray[np.int64], random: np.random.Generator) -> float:
        mirror = self.options.mirror & (random.random(len(batch)) < 0.5)
        maps = _bfloat16(maps_of(self.examples.features, batch, mirror), self.device)
        maps, targets = mix_features(maps, self.examples.targets[batch].to(self.device), self.options, random)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.branch(maps)
        loss = LOSSES[self.options.loss](logits + self.offset, targets, self.resting.masked(self.weights))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.schedule.step()
        self._follow()
        return loss.item()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the running mean; its first steps follow faster, so that it forgets the random start."""
        self.steps += 1
        decay = min(self.options.average, self.steps / (self.steps + 10))
        for mean, now in zip(self.average.parameters(), self.branch.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
        follow_statistics(self.average, self.branch, decay)


def schedule(optimiser: torch.optim.Optimizer, descent: Descent, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule; that of `cosine` moves the momentum against the rate, too."""
    if descent.schedule == "cosine":
        peaks, total = [group["lr"] for group in optimiser.param_groups], steps + 1
        rise = min(1.0, max(_RISE, 2 / total))  # one step at least: torch divides by the length of the rise
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, peaks, total_steps=total, pct_start=rise)
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: descent.share(step, steps))


def mix_features(
    maps: dict[str, Tensor], targets: Tensor, options: FitOptions, random: np.random.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Mix pairs of examples, and multiply each channel by a random gain."""
    if options.noise:
        maps = {depth: found * _channel_gain(found, options.noise) for depth, found in maps.items()}
    if options.mixup:
        share = float(random.beta(options.mixup, options.mixup))
        other = torch.from_numpy(random.permutation(len(targets)))
        maps = {depth: found * share + found[other] * (1 - share) for depth, found in maps.items()}
        targets = targets * share + targets[other] * (1 - share)
    return maps, targets


def _channel_gain(found: Tensor, noise: float) -> Tensor:
    return (torch.randn(*found.shape[:2], 1, 1) * noise + 1).to(found)


def _chunks(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
