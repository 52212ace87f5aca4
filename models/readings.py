"""Readings: scores on the grid on which they are stored, and the answers that a branch's description reads from them.

A score is stored as a code, a whole number of 16 bits. softmax and age: -ln p in steps of 1/2048, p the softmax of the
logits before the temperature. multilabel: the logit before the temperature in steps of 1/1024 around 32768.

The model puts its scores on this grid before they are interpreted, so stored codes that are read again give the bits
that inference gave. To hold that for any number of rows, `reread` uses tables, division and sums in order alone: a
vectorised exponential differs in the last bit from the one that computes the rest of an array.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.types import HeadOutput

if TYPE_CHECKING:
    from models.branches import BranchSpec, Kind

LOG_STEPS = 2048  # codes a unit of -ln p: a probability is off by 0.025 % of itself at most
LOGIT_STEPS = 1024  # codes a unit of a multilabel logit: its probability is off by 0.00013 at most
LOGIT_ZERO = 32768  # code of the logit 0, so that logits reach from -32 to 32
INTERVAL = (0.1, 0.9)  # levels of the central 80 % interval of an age
MAX_CODE = 65535  # 16 bits; of -ln p it is 32


def to_grid(kind: Kind, logits: Tensor) -> Tensor:
    """Return (N, K) float32 whole numbers 0..65535, the codes of (N, K) float32 logits on any device."""
    steps = logits * LOGIT_STEPS + LOGIT_ZERO if kind == "multilabel" else logits.log_softmax(1) * -LOG_STEPS
    return steps.round().clamp(0, MAX_CODE)


def encode(kind: Kind, logits: Tensor) -> Tensor:
    """Return the (N, K) int32 codes of (N, K) float32 logits."""
    return to_grid(kind, logits).int()


def decode(kind: Kind, codes: Tensor) -> Tensor:
    """Return (N, K) float64 logits from (N, K) codes; of softmax and age those whose exponentials sum to about 1."""
    if kind == "multilabel":
        return (codes.double() - LOGIT_ZERO) / LOGIT_STEPS
    return codes.double() / -LOG_STEPS


def interpret(spec: BranchSpec, logits: Tensor) -> HeadOutput:
    """Turn (N, K) float32 logits into the output of a head, by way of their codes; training evaluates with it, too."""
    return reread(spec, encode(spec.kind, logits))


def reread(spec: BranchSpec, codes: Tensor) -> HeadOutput:
    """Turn stored codes into the output of a head: bit for bit that of the inference that stored them.

    Args:
        spec: the branch; its temperature, abstention and thresholds may be others than at the time of storing.
        codes: (N, K) int32, on any device; the output lies there too. A CPU reads about 1024 rows at once fastest.
    """
    table = _table(spec.kind, spec.temperature, codes.device)
    if spec.kind == "multilabel":
        return HeadOutput(spec.labels, _looked_up(table, codes), codes=codes, is_multi_label=True)
    shares = _looked_up(table, codes - codes.amin(1, keepdim=True))  # of the best label 1, which never underflows
    probabilities = shares / shares.cumsum(1)[:, -1:]
    if spec.kind == "softmax":
        unsure = None if spec.abstain is None else probabilities.amax(1) < spec.abstain
        return HeadOutput(spec.labels, probabilities, abstains=unsure, codes=codes)
    years = torch.arange(len(spec.labels), dtype=torch.float32, device=codes.device) + int(spec.labels[0])
    mean = (probabilities * years).cumsum(1)[:, -1]
    low, high = quantiles(probabilities, years, INTERVAL).unbind(1)
    unsure = None if spec.abstain is None else high - low > spec.abstain
    return HeadOutput(spec.labels, probabilities, mean, low, high, unsure, codes)


def quantiles(probabilities: Tensor, years: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Return the ages below which some levels of the probability lie, where each year reaches half a year to each side.

    Args:
        probabilities: (N, K), rows sum to 1.
        years: (K,) ascending, one apart.
        levels: L numbers in 0..1.

    Returns:
        (N, L) years, not below 0.
    """
    reached = probabilities.cumsum(1)
    wanted = reached.new_tensor(levels).expand(len(reached), -1).contiguous()
    column = torch.searchsorted(reached, wanted).clamp(max=len(years) - 1)
    inside = probabilities.gather(1, column)
    before = reached.gather(1, column) - inside
    share = ((wanted - before) / inside.clamp(min=1e-12)).clamp(0, 1)
    return (years[column] - 0.5 + share).clamp(min=0)


def _looked_up(table: Tensor, codes: Tensor) -> Tensor:
    return table.index_select(0, codes.flatten()).view_as(codes)


@functools.lru_cache(maxsize=64)  # 256 kB each; a release has one a head
def _table(kind: Kind, temperature: float, device: torch.device) -> Tensor:
    """Return (65536,) float32: the probability of each code (multilabel), or its weight beside that of code 0."""
    scaled = decode(kind, torch.arange(MAX_CODE + 1)) / temperature
    found = scaled.sigmoid() if kind == "multilabel" else scaled.exp()
    return found.float().to(device)
