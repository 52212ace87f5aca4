"""Small probes on pooled features: one for each fold and strength of regularisation, all trained in one go.

A probe is a hidden layer and an output layer, or an output layer alone. The first layers of all probes lie side by side
in one matrix, so that a batch is read and multiplied once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from training.losses import ROW_LOSSES, LossName

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

TRAIN, JUDGE, TEST = 0, 1, 2
"""What a row is to a fold's probe: learnt from, chooses the strength, or scored."""
JUDGED_SHARE = 0.1
"""Share of a fold's other rows that choose its strength and are not learnt from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How probes are trained."""

    hidden: int = 64
    """Width of the hidden layer; 0 for a linear probe."""
    strengths: tuple[float, ...] = (0.1, 1.0, 10.0)
    """Weight decays of AdamW that are tried; each fold takes the one that its judging rows like best."""
    dropout: float = 0.3
    """On the features and on the hidden layer."""
    epochs: int = 10
    batch: int = 256
    learning_rate: float = 2e-3
    """Peak; it rises over a tenth of the steps and then falls to zero along a cosine."""
    seed: int = 0


class ProbeBank(nn.Module):
    """P probes of one shape: (B, D) features to (P, B, K) logits."""

    def __init__(self, probes: int, features: int, outputs: int, options: ProbeOptions) -> None:
        super().__init__()
        self.probes, self.hidden = probes, options.hidden
        first = options.hidden or outputs
        self.first = nn.Linear(features, probes * first)
        self.dropout = nn.Dropout(options.dropout)
        bound = max(first, 1) ** -0.5
        shape = (probes, first, outputs) if options.hidden else (0, first, outputs)
        self.second = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(probes if options.hidden else 0, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Apply every probe to every row."""
        found = self.first(self.dropout(x)).unflatten(1, (self.probes, -1)).transpose(0, 1)
        if not self.hidden:
            return torch.as_tensor(found)
        return torch.baddbmm(self.bias.to(found.dtype), self.dropout(found.relu()), self.second.to(found.dtype))


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


def standardised(features: NDArray[np.float16]) -> Tensor:
    """Flatten (N, ...) features and bring each column to mean 0 and deviation 1: (N, D) bfloat16.

    All rows set mean and deviation; no label is looked at.
    """
    x = torch.from_numpy(np.asarray(features, dtype=np.float32).reshape(len(features), -1))
    deviation, mean = torch.std_mean(x, dim=0)
    return ((x - mean) / deviation.clamp(min=1e-3)).to(torch.bfloat16)


def cross_validate(
    x: Tensor,
    targets: Tensor,
    fold_roles: NDArray[np.int8],
    judge: tuple[LossName, Callable[[Tensor, Tensor], float]],
    options: ProbeOptions,
) -> list[float]:
    """Train a probe for each fold and strength, and score each fold with the strength that its judging rows chose.

    Args:
        x: (N, D) bfloat16.
        targets: (N, K) float32.
        fold_roles: (F, N), see ``roles``.
        judge: the loss, and the score of (M, K) logits against (M, K) targets; higher is better.
        options: how to train.

    Returns:
        F scores on the rows that the fold's probe has not seen.
    """
    loss, score = judge
    torch.manual_seed(options.seed)
    shape = (len(fold_roles), x.shape[1], targets.shape[1])
    banks = nn.ModuleList(ProbeBank(*shape, options) for _ in options.strengths)
    _train(banks, (x, targets), torch.from_numpy(fold_roles == TRAIN), loss, options)
    logits = [_logits(bank, x) for bank in banks]

    def scored(bank: int, fold: int, role: int) -> float:
        rows = torch.from_numpy(np.flatnonzero(fold_roles[fold] == role))
        return score(logits[bank][fold, rows], targets[rows])

    chosen = [max(range(len(banks)), key=lambda b: scored(b, f, JUDGE)) for f in range(len(fold_roles))]
    return [scored(bank, fold, TEST) for fold, bank in enumerate(chosen)]


def _train(
    banks: nn.ModuleList, examples: tuple[Tensor, Tensor], learnt: Tensor, loss: LossName, options: ProbeOptions
) -> None:
    """Go through the rows in random order; a row counts for the probes that learn from it."""
    x, targets = examples
    groups = [
        {"params": list(bank.parameters()), "weight_decay": strength}
        for bank, strength in zip(banks, options.strengths, strict=True)
    ]
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)
    batches = max(1, len(x) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=options.epochs * batches + 1, pct_start=0.1
    )
    banks.train()
    for _ in range(options.epochs):
        for rows in torch.randperm(len(x)).tensor_split(batches):
            weight = learnt[:, rows].float()
            weight /= weight.sum(dim=1, keepdim=True).clamp(min=1)
            total = torch.stack([(_row_losses(bank, x[rows], targets[rows], loss) * weight).sum() for bank in banks])
            optimiser.zero_grad(set_to_none=True)
            total.sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def _row_losses(bank: nn.Module, x: Tensor, targets: Tensor, loss: LossName) -> Tensor:
    """Return each probe's loss of each row: (P, B)."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = bank(x)
    probes, rows, outputs = logits.shape
    flat = ROW_LOSSES[loss](logits.float().reshape(-1, outputs), targets.repeat(probes, 1), torch.ones(outputs))
    return flat.reshape(probes, rows)


def _logits(bank: nn.Module, x: Tensor) -> Tensor:
    bank.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return torch.cat([bank(part).float() for part in torch.split(x, 2048)], dim=1)
