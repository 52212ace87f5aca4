"""From responses of aligned faces to the region of each label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from training.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from models.trunks.receptive_fields import ReceptiveField


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSearch:
    """How the regions of a branch are found: the response networks learn first, then all its layers together."""

    first_steps: int
    """Steps of the run in which only the response networks learn, by their first answers; then regions are found."""
    threshold: float = 0.8
    """From a face's least response to its greatest: a place belongs to the region from this share of the way on."""
    faces: int = 4000
    """Training faces, at most, whose rectangles are averaged, each for the labels that it has."""

    def __post_init__(self) -> None:
        if self.first_steps < 1 or self.faces < 1 or not 0 < self.threshold <= 1:
            raise RecipeError(f"regions need a step, a face and a threshold above 0 up to 1, got {self}")


def rectangles(responses: Tensor, field: ReceptiveField, side: int, threshold: float) -> Tensor:
    """Return the rectangle of the crop that the places of high response see, for each label of each face.

    Args:
        responses: (N, K, h, w).
        field: of the map of the responses.
        side: of the crops, in pixels.
        threshold: see ``RegionSearch``.

    Returns:
        (N, K, 4) x0, y0, x1, y1 in pixels.
    """
    low, high = responses.amin((2, 3), keepdim=True), responses.amax((2, 3), keepdim=True)
    belongs = responses >= low + (high - low) * threshold
    belongs |= responses == high  # also where rounding puts the threshold above the greatest
    (x0, x1), (y0, y1) = (_stretch(belongs.any(dim=axis), field) for axis in (2, 3))
    return torch.stack([x0, y0, x1, y1], 2).clamp(0, side)


def _stretch(belongs: Tensor, field: ReceptiveField) -> tuple[Tensor, Tensor]:
    """Return the first pixel that the places along an axis see, and the one behind the last: (N, K) each."""
    places = torch.arange(belongs.shape[2], device=belongs.device)
    first = torch.where(belongs, places, belongs.shape[2]).amin(dim=2)
    last = torch.where(belongs, places, -1).amax(dim=2)
    return (field.start + first * field.step).float(), (field.start + last * field.step + field.size).float()


def average_regions(found: Tensor, targets: Tensor, side: int) -> Tensor:
    """Average the rectangles of the faces that have a label.

    Args:
        found: (N, K, 4) pixels.
        targets: (N, K) 0..1.
        side: of the crops, in pixels.

    Returns:
        (K, 4) whole pixels; the whole crop for a label that no face has.
    """
    having = (targets > 0.5).to(found)
    count = having.sum(dim=0)[:, None]
    mean = (found * having[..., None]).sum(dim=0) / count.clamp(min=1)
    whole = found.new_tensor([0, 0, side, side])
    return torch.where(count > 0, mean, whole).round()
