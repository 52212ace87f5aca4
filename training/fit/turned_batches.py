"""Batches of crops to learn orientation from: half of them drawn from patches at any angle, half cut by the detector.

All randomness follows from a generator on the CPU: the same state gives the same batch on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from models.detection.orientation import SIDE
from training.data.turned_crops import PATCH_FACE, PATCH_SIDE
from training.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from training.data.turned_crops import TurnedCrops

PARTS = 4  # of a batch, of one size: upright and turned ones, from patches and by the detector

UPRIGHT_DEGREES = 5.0  # standard deviation of an upright crop's angle
UPRIGHT_SIZE = 0.06  # the same of the logarithm of its size
UPRIGHT_SHIFT = 2.0  # the same of its place, pixels of the patch
TURNED_DEGREES = (25.0, 335.0)  # range of a turned crop's angle
TURNED_SIZE = (-0.35, 0.3)  # the same of the logarithm of its size
TURNED_SHIFT = 9.0  # pixels of the patch, at most

BLURRED, BLUR = 0.3, (0.4, 1.8)  # chance, and standard deviation in pixels
COARSENED, COARSE_SIDES = 0.25, (14, 21, 28, 35, 42)  # chance, and pixels to which a side is reduced
GAMMA_CHANGED, GAMMA = 0.3, 0.4  # chance, and standard deviation of the logarithm
NOISED, NOISE = 0.4, (1.0, 12.0)  # chance, and standard deviation in grey levels
HIDDEN, HIDDEN_SIDES = 0.15, (8, 26)  # chance, and pixels of a hidden rectangle's sides
_BLUR_REACH = 5  # pixels


@dataclass(frozen=True, slots=True)
class OrientationBatch:
    """Crops with their labels."""

    crops: Tensor
    """(B, 1, 56, 56) float32, 0..255."""
    upright: Tensor
    """(B,) float32: 1 or 0."""


class TurnedBatches:
    """Draws the batch of a step."""

    def __init__(self, data: TurnedCrops, size: int, seed: int, device: torch.device) -> None:
        """Check the data.

        Raises:
            DataError: there is no patch, no upright or no turned crop.
        """
        self._data, self._each, self._seed, self._device = data, max(1, size // PARTS), seed, device
        self._upright, self._turned = np.flatnonzero(data.upright), np.flatnonzero(~data.upright)
        if not (len(data.patches) and len(self._upright) and len(self._turned)):
            raise DataError(
                f"got {len(data.patches)} faces, {len(self._upright)} upright and {len(self._turned)} turned crops; "
                "expected some of each: take more images"
            )

    def take(self, step: int) -> OrientationBatch:
        """Return the augmented batch of a step."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        parts = [self._drawn(upright, generator) for upright in (True, False)]
        parts += [self._cut(rows, generator) for rows in (self._upright, self._turned)]
        crops = change(torch.cat(parts), generator)
        return OrientationBatch(
            crops, torch.tensor([1.0, 0.0, 1.0, 0.0], device=self._device).repeat_interleave(self._each)
        )

    def _drawn(self, upright: bool, generator: torch.Generator) -> Tensor:  # noqa: FBT001 - which of two kinds
        rows = torch.randint(len(self._data.patches), (self._each,), generator=generator)
        return draw_crops(self._pixels(self._data.patches[rows.numpy()]), generator, upright=upright)

    def _cut(self, rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(rows), (self._each,), generator=generator)
        return self._pixels(self._data.crops[rows[chosen.numpy()]])

    def _pixels(self, grey: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(grey).to(self._device).float()[:, None]


def draw_crops(patches: Tensor, generator: torch.Generator, *, upright: bool) -> Tensor:
    """Draw a crop out of each of (N, 1, 160, 160) patches: (N, 1, 56, 56), upright or turned and misplaced."""
    count = len(patches)
    if upright:
        angle = torch.randn(count, generator=generator) * UPRIGHT_DEGREES
        size = torch.randn(count, generator=generator) * UPRIGHT_SIZE
        shift = torch.randn(count, 2, generator=generator) * UPRIGHT_SHIFT
    else:
        angle, size = (_between(limits, generator, count) for limits in (TURNED_DEGREES, TURNED_SIZE))
        shift = _between((-TURNED_SHIFT, TURNED_SHIFT), generator, count, 2)
    scale, angle = size.exp() * (PATCH_FACE / PATCH_SIDE), angle.deg2rad()
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    x, y = (shift / (PATCH_SIDE / 2)).unbind(1)
    matrix = torch.stack((cosine, -sine, x, sine, cosine, y), 1).reshape(-1, 2, 3).to(patches.device)
    grid = functional.affine_grid(matrix, [count, 1, SIDE, SIDE], align_corners=False)
    return functional.grid_sample(patches, grid, align_corners=False)


def change(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Change (N, 1, S, S) crops as cameras, compression and things before a face do: float32 in 0..255."""
    x = crops.clone()
    for chance, apply in (
        (0.5, _mirror),
        (BLURRED, _blur),
        (COARSENED, _coarsen),
        (GAMMA_CHANGED, _change_gamma),
        (NOISED, _add_noise),
        (HIDDEN, _hide),
    ):
        rows = (torch.rand(len(x), generator=generator) < chance).nonzero()[:, 0].to(x.device)
        if len(rows):
            x[rows] = apply(x[rows], generator).clamp(0, 255)
    return x


def _between(limits: tuple[float, float], generator: torch.Generator, *shape: int) -> Tensor:
    low, high = limits
    return torch.rand(*shape, generator=generator) * (high - low) + low


def _mirror(x: Tensor, _generator: torch.Generator) -> Tensor:
    return x.flip(3)


def _blur(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blur each crop by a Gaussian of its own."""
    sigma = _between(BLUR, generator, len(x), 1).to(x.device)
    place = torch.arange(-_BLUR_REACH, _BLUR_REACH + 1, device=x.device)
    kernel = (-(place**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None, None]
    planes = functional.pad(x, [_BLUR_REACH] * 4, mode="replicate").permute(1, 0, 2, 3)
    planes = functional.conv2d(planes, kernel, groups=len(x))
    return functional.conv2d(planes, kernel.mT, groups=len(x)).permute(1, 0, 2, 3)


def _coarsen(x: Tensor, generator: torch.Generator) -> Tensor:
    sides = torch.randint(len(COARSE_SIDES), (len(x),), generator=generator)
    for number, side in enumerate(COARSE_SIDES):
        rows = (sides == number).nonzero()[:, 0].to(x.device)
        if len(rows):
            small = functional.interpolate(x[rows], size=side, mode="area")
            x[rows] = functional.interpolate(small, size=x.shape[-1], mode="bilinear", align_corners=False)
    return x


def _change_gamma(x: Tensor, generator: torch.Generator) -> Tensor:
    gamma = (torch.randn(len(x), 1, 1, 1, generator=generator) * GAMMA).exp().to(x.device)
    return (x.clamp(0, 255) / 255) ** gamma * 255


def _add_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    deviation = _between(NOISE, generator, len(x), 1, 1, 1)
    return x + (torch.randn(x.shape, generator=generator) * deviation).to(x.device)


def _hide(x: Tensor, generator: torch.Generator) -> Tensor:
    """Hide a rectangle of each crop under a grey of its own."""
    side = x.shape[-1]
    extent = torch.randint(*HIDDEN_SIDES, (len(x), 2), generator=generator)
    start = (torch.rand(len(x), 2, generator=generator) * (side - extent)).long()
    place = torch.arange(side)
    hidden = (place >= start[..., None]) & (place < (start + extent)[..., None])
    area = (hidden[:, 0, :, None] & hidden[:, 1, None, :])[:, None].to(x.device)
    grey = _between((0.0, 255.0), generator, len(x), 1, 1, 1).to(x.device)
    return torch.where(area, grey, x)
