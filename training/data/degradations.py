"""The fixed degraded copies of crops on which every release is judged, alike at each evaluation.

They are cut from good crops and damaged then, by the functions that training draws from at random
(`training.data.degrade`). So they show what the heads make of a bad face, and nothing of faces that the detector would
miss or align worse. A rotation of the crop stands for landmarks that are off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from training.data.degrade import degrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from training.data.degrade import DegradationName

BATCH = 256  # crops degraded at a time
MAX_TURN = math.radians(30)
# Share of a crop's side that the shorter side of a face's box takes, on the template that all trunks share.
FACE_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Damage:
    """One way of training's degradations, with one strength for all crops."""

    name: DegradationName
    strength: float
    """0..1."""

    def __call__(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade (N, 3, S, S) crops."""
        return degrade(crops, self.name, torch.full((len(crops),), self.strength), generator)


@dataclass(frozen=True, slots=True)
class Reduced:
    """A face of few pixels, enlarged to a crop."""

    pixels: int
    """Shorter side of the face's box."""

    def __call__(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade (N, 3, S, S) crops."""
        del generator
        small = functional.interpolate(crops, size=round(self.pixels / FACE_SHARE), mode="area")
        return functional.interpolate(small, size=crops.shape[-1], mode="bicubic", align_corners=False)


@dataclass(frozen=True, slots=True)
class Turned:
    """Rotated about the middle by any angle up to MAX_TURN to either side; pixels from outside repeat the border."""

    def __call__(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade (N, 3, S, S) crops."""
        angle = ((torch.rand(len(crops), generator=generator) * 2 - 1) * MAX_TURN).to(crops.device)
        rows = (torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos())))
        matrix = functional.pad(torch.stack(rows).permute(2, 0, 1), (0, 1))
        grid = functional.affine_grid(matrix, list(crops.shape), align_corners=False)
        return functional.grid_sample(crops, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True, slots=True)
class InTurn:
    """Several degradations, one after the other."""

    parts: tuple[Damage | Reduced, ...]

    def __call__(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """Degrade (N, 3, S, S) crops."""
        for part in self.parts:
            crops = part(crops, generator)
        return crops


# By name, in the order of tables. JPEG has quality 30: strength 0 stands for 40 and 1 for 8.
COPIES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "grey": Damage("grey", 1.0),
    "tinted": Damage("tint", 0.7),
    "faded": Damage("fade", 0.7),
    "low light": Damage("dark", 0.7),
    "over-exposed": Damage("bright", 0.7),
    "grain": Damage("grain", 0.7),
    "scratches": Damage("scratches", 0.8),
    "JPEG 30": Damage("jpeg", 10 / 32),
    "blur": Damage("blur", 0.6),
    "motion blur": Damage("motion", 0.6),
    "48 px": Reduced(48),
    "32 px": Reduced(32),
    "24 px": Reduced(24),
    "patch": Damage("patch", 1.0),
    "rotated": Turned(),
    "old print": InTurn((Reduced(48), Damage("grey", 1.0), Damage("grain", 0.5), Damage("scratches", 0.4))),
}


def degraded_copy(crops: Tensor, name: str, seed: int = 0) -> Tensor:
    """Return a degraded copy of crops, on their device.

    Args:
        crops: (N, 3, S, S) uint8.
        name: one of COPIES.
        seed: the same seed and crops give the same copy on every device.

    Returns:
        (N, 3, S, S) uint8.
    """
    if len(crops) == 0:
        return crops
    generator = torch.Generator().manual_seed(seed)
    starts = range(0, len(crops), BATCH)
    parts = [COPIES[name](crops[start : start + BATCH].float(), generator) for start in starts]
    return torch.cat(parts).clamp(0, 255).round().to(torch.uint8)
