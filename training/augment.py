"""Augmentation of aligned crops: what cameras, detectors and compression do to a face, in batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentOptions:
    """How far crops are changed; zeros change nothing."""

    mirror: float = 0.5
    """Chance of a flip from left to right."""
    rotation_degrees: float = 8.0
    """Standard deviation; landmarks err, heads tilt."""
    scale: float = 0.06
    """Standard deviation of the logarithm of the size."""
    shift: float = 0.02
    """Standard deviation along both axes, as a share of the crop's side."""
    brightness: float = 0.2
    """Standard deviation of a gain on all pixels."""
    contrast: float = 0.2
    """Standard deviation of a gain on the distance from the crop's mean."""
    grey: float = 0.1
    """Chance of losing all colour."""
    coarse: float = 0.2
    """Chance of being reduced to 28..84 pixels and enlarged again."""
    erase: float = 0.25
    """Chance that a rectangle of up to a third of the side is hidden under grey."""


_COARSE_SIDES = (28, 42, 56, 84)  # pixels
_MOST_ERASED = 0.35  # of the crop's side
_GREY = 127.5


def augment(crops: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Change each crop in its own way.

    Args:
        crops: (N, 3, S, S) uint8.
        options: how far.
        generator: of all randomness; the same state gives the same crops.

    Returns:
        (N, 3, S, S) float32 in 0..255, rounded as a decoder would.
    """
    x = _warp(crops.float(), options, generator)
    x = _coarsen(x, options, generator)
    x = _recolour(x, options, generator)
    x = _erase(x, options, generator)
    return x.clamp(0, 255).round()


def _normal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, generator=generator)


def _chosen(count: int, chance: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < chance


def _warp(x: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Flip, turn, resize and move in one resampling; what comes from outside repeats the border."""
    count = len(x)
    angle = _normal(count, generator) * math.radians(options.rotation_degrees)
    size = (_normal(count, generator) * options.scale).exp()
    flip = 1 - 2 * _chosen(count, options.mirror, generator).float()
    shift = torch.randn(count, 2, generator=generator) * options.shift * 2  # the grid is two units wide
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = size * angle.cos() * flip, -size * angle.sin()
    matrix[:, 1, 0], matrix[:, 1, 1] = size * angle.sin() * flip, size * angle.cos()
    matrix[:, :, 2] = shift
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _coarsen(x: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    chosen = _chosen(len(x), options.coarse, generator)
    sides = torch.randint(len(_COARSE_SIDES), (len(x),), generator=generator)
    for number, side in enumerate(_COARSE_SIDES):
        rows = torch.nonzero(chosen & (sides == number))[:, 0]
        if len(rows):
            small = functional.interpolate(x[rows], size=side, mode="area")
            x[rows] = functional.interpolate(small, size=x.shape[-1], mode="bilinear", align_corners=False)
    return x


def _recolour(x: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    count = len(x)
    grey = _chosen(count, options.grey, generator)
    x[grey] = x[grey].mean(dim=1, keepdim=True)
    brightness = 1 + _normal(count, generator) * options.brightness
    contrast = 1 + _normal(count, generator) * options.contrast
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * contrast.clamp(min=0.2)[:, None, None, None] + mean) * brightness.clamp(min=0.3)[
        :, None, None, None
    ]


def _erase(x: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    side = x.shape[-1]
    for row in torch.nonzero(_chosen(len(x), options.erase, generator))[:, 0].tolist():
        height, width = (torch.rand(2, generator=generator) * _MOST_ERASED * side).int().tolist()
        top, left = (torch.rand(2, generator=generator) * side).int().tolist()
        x[row, :, top : top + height, left : left + width] = _GREY
    return x
