"""Augmentation of aligned crops, in batches, after the effects of cameras, detectors and compression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.data.degrade import Draws


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentOptions:
    """Strength of each change; zeros change nothing."""

    mirror: float = 0.5
    """Chance of a flip from left to right."""
    rotation_degrees: float = 8.0
    """Standard deviation; stands for errors of landmarks and tilted heads."""
    scale: float = 0.06
    """Standard deviation of the logarithm of the size."""
    shift: float = 0.02
    """Standard deviation along both axes, as a share of the crop's side."""
    uniform_shift: float = 0.0
    """Largest shift along either axis, as a share of the crop's side (``pixels / side``); all up to it are equally
    likely. It is added to ``shift``."""
    brightness: float = 0.2
    """Standard deviation of a gain on all pixels."""
    contrast: float = 0.2
    """Standard deviation of a gain on the distance from the crop's mean."""
    grey: float = 0.1
    """Chance of becoming grey."""
    coarse: float = 0.2
    """Chance of being reduced to 28..84 pixels and enlarged again."""
    erase: float = 0.25
    """Chance that a grey rectangle of up to a third of the side hides a part."""


_COARSE_SIDES = (28, 42, 56, 84)  # pixels
_MAX_ERASED = 0.35  # of the crop's side
_GREY = 127.5


def augment(crops: Tensor, options: AugmentOptions, generator: torch.Generator) -> Tensor:
    """Change each crop at random, on its device.

    Args:
        crops: (N, 3, S, S) uint8, on any device.
        options: strength of each change.
        generator: of all randomness, on the CPU; the same state gives the same changes on every device.

    Returns:
        (N, 3, S, S) float32 in 0..255, rounded as a decoder would.
    """
    draws = Draws(len(crops), generator, crops.device)
    x = _warp(crops.float(), options, draws)
    x = _coarsen(x, options, draws)
    x = _recolour(x, options, draws)
    x = _erase(x, options, draws)
    return x.clamp(0, 255).round()


def _warp(x: Tensor, options: AugmentOptions, draws: Draws) -> Tensor:
    """Flip, turn, resize and move in one resampling; pixels from outside repeat the border."""
    angle = draws.normal() * math.radians(options.rotation_degrees)
    size = (draws.normal() * options.scale).exp()
    flip = 1 - 2 * draws.chosen(options.mirror).float()
    shift = draws.normal(2) * options.shift * 2  # the grid is two units wide
    if options.uniform_shift:  # draws nothing where it is off, so that other runs go on exactly
        shift += (draws.uniform(2) * 2 - 1) * options.uniform_shift * 2
    matrix = torch.zeros(len(x), 2, 3, device=x.device)
    matrix[:, 0, 0], matrix[:, 0, 1] = size * angle.cos() * flip, -size * angle.sin()
    matrix[:, 1, 0], matrix[:, 1, 1] = size * angle.sin() * flip, size * angle.cos()
    matrix[:, :, 2] = shift
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _coarsen(x: Tensor, options: AugmentOptions, draws: Draws) -> Tensor:
    chosen = draws.chosen(options.coarse)
    sides = (draws.uniform() * len(_COARSE_SIDES)).long()
    for number, side in enumerate(_COARSE_SIDES):
        rows = torch.nonzero(chosen & (sides == number))[:, 0]
        if len(rows):
            small = functional.interpolate(x[rows], size=side, mode="area")
            x[rows] = functional.interpolate(small, size=x.shape[-1], mode="bilinear", align_corners=False)
    return x


def _recolour(x: Tensor, options: AugmentOptions, draws: Draws) -> Tensor:
    grey = draws.chosen(options.grey)
    x[grey] = x[grey].mean(dim=1, keepdim=True)
    brightness = (1 + draws.normal(1, 1, 1) * options.brightness).clamp(min=0.3)
    contrast = (1 + draws.normal(1, 1, 1) * options.contrast).clamp(min=0.2)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * contrast + mean) * brightness


def _erase(x: Tensor, options: AugmentOptions, draws: Draws) -> Tensor:
    side = x.shape[-1]
    chosen = draws.chosen(options.erase)
    extent = (draws.uniform(2) * _MAX_ERASED * side).floor()
    start = (draws.uniform(2) * side).floor()
    place = torch.arange(side, device=x.device)
    hidden = (place >= start[..., None]) & (place < (start + extent)[..., None])  # (N, 2, S): rows and columns
    hidden &= chosen[:, None, None]
    return x.masked_fill((hidden[:, 0, :, None] & hidden[:, 1, None, :])[:, None], _GREY)
