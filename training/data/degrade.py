"""Effects that archives have on faces: small, blurred, compressed, noisy, faded, dark and half hidden crops.

Each degradation is a function of a batch of crops and of a strength for each of them, from 0 (hardly visible) to 1 (as
bad as archives have it); the same functions make training batches and the degraded copies on which a release is judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

DegradationName = Literal[
    "grey", "tint", "fade", "dark", "bright", "grain", "scratches", "jpeg", "blur", "motion", "small", "patch"
]

_MIDDLE, _WHITE = 127.5, 255.0
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in the brightness of a pixel, ITU-R BT.601
_BLOCK = 8  # pixels; side of the blocks of JPEG
# ITU-T T.81, table K.1, for brightness; colours are kept as they are, since they hide no shape.
_QUANTISATION = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def degrade_at_random(crops: Tensor, chance: float, generator: torch.Generator, *, most: int = 3) -> Tensor:
    """Degrade some crops in one to ``most`` ways, one after the other, each with a strength of its own.

    Args:
        crops: (N, 3, S, S) 0..255, on any device.
        chance: of each crop to be degraded.
        generator: of all randomness, on the CPU.
        most: degradations of one crop.

    Returns:
        (N, 3, S, S) float32, 0..255.
    """
    x = crops.float().clone()
    ways = torch.randint(1, most + 1, (len(x),), generator=generator)
    ways = torch.where(torch.rand(len(x), generator=generator) < chance, ways, 0)
    names = tuple(DEGRADATIONS)
    for turn in range(most):
        chosen = torch.randint(len(names), (len(x),), generator=generator)
        strength = torch.rand(len(x), generator=generator)
        for number, name in enumerate(names):
            rows = torch.nonzero((chosen == number) & (ways > turn))[:, 0]
            if len(rows):
                here = rows.to(x.device)
                x[here] = degrade(x[here], name, strength[rows], generator)
    return x


def degrade(crops: Tensor, name: DegradationName, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Degrade all crops in one way.

    Args:
        crops: (N, 3, S, S) 0..255, on any device.
        name: of the degradation.
        strength: (N,) 0..1.
        generator: of all randomness, on the CPU.

    Returns:
        (N, 3, S, S) float32, 0..255.
    """
    draws = Draws(len(crops), generator, crops.device)
    strength = strength.to(crops.device).float()[:, None, None, None]
    return DEGRADATIONS[name](crops.float(), strength, draws).clamp(0, _WHITE)


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers for a batch of crops, drawn on the CPU: the same state gives the same ones on every device."""

    count: int
    generator: torch.Generator
    device: torch.device

    def normal(self, *more: int) -> Tensor:
        """Draw (N, *more) of mean 0 and deviation 1."""
        return torch.randn(self.count, *more, generator=self.generator).to(self.device)

    def uniform(self, *more: int) -> Tensor:
        """Draw (N, *more) from 0 to below 1."""
        return torch.rand(self.count, *more, generator=self.generator).to(self.device)

    def chosen(self, chance: float) -> Tensor:
        """Choose each crop with a chance: (N,) bool."""
        return self.uniform() < chance


def _luma(x: Tensor) -> Tensor:
    """Return the (N, 1, S, S) brightness."""
    weights = x.new_tensor(_LUMA)[:, None, None]
    return (x * weights).sum(dim=1, keepdim=True)


def _grey(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Take the colours away, all of them from half the strength on."""
    del draws
    return x.lerp(_luma(x).expand_as(x), (strength * 2).clamp(max=1))


def _tint(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Multiply each colour by a gain of its own, as aged prints and wrong white balance do."""
    gains = (draws.normal(3, 1, 1) * 0.3 * strength).exp()
    return x * gains / gains.mean(dim=1, keepdim=True)


def _fade(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Lift blacks, lower whites and wash colours out towards the tone of old paper."""
    tone = x.new_tensor((1.0, 0.94, 0.82))[:, None, None] * (_MIDDLE + 40 * draws.uniform(1, 1, 1))
    washed = x.lerp(_luma(x).expand_as(x), 0.7 * strength)
    return washed.lerp(tone.expand_as(x), 0.65 * strength)


def _dark(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Leave little light, and the noise of a sensor that makes up for it."""
    level = 1 - 0.85 * strength
    light = (x / _WHITE) ** (1 + strength) * _WHITE * level
    noise = draws.normal(*x.shape[1:]) * (2 + 8 * strength)
    return (light + noise).round()


def _bright(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Over-expose: bright parts lose all shape."""
    del draws
    return x * (1 + 1.2 * strength) + 40 * strength


def _grain(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Add grain: noise of brightness, coarser than pixels, strongest in the middle tones."""
    fine = draws.normal(1, *x.shape[2:])
    coarse = functional.avg_pool2d(fine, 3, stride=1, padding=1) * 2
    tones = 1 - ((x / _MIDDLE - 1) ** 2) * 0.6
    return x + (fine + coarse) * 0.7 * tones * (4 + 26 * strength)


def _scratches(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Draw up to six upright scratches, bright or dark, that waver a little."""
    side = x.shape[-1]
    rows, columns = torch.arange(side, device=x.device)[:, None], torch.arange(side, device=x.device)
    for number in range(6):
        start, slope, bright, depth = draws.uniform(4, 1, 1).unbind(1)
        centre = start * side + (slope - 0.5) * 0.15 * rows  # (N, S, 1)
        line = torch.exp(-((columns - centre) ** 2) / 0.7)[:, None]
        there = (strength * 6 > number).float() * (0.3 + 0.7 * depth[:, None])
        x = x.lerp((bright[:, None] > 0.4).float() * _WHITE, line * there)
    return x


def _jpeg(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Quantise the brightness of blocks as JPEG does, at a quality from 40 down to 8."""
    del draws
    quality = 40 - 32 * strength
    table = x.new_tensor(_QUANTISATION) * (50 / quality)
    luma = _luma(x)
    return x + _quantised(luma, table.clamp(1, 255)) - luma


def _quantised(luma: Tensor, table: Tensor) -> Tensor:
    """Round the cosine transform of each block of (N, 1, S, S) brightness to multiples of an (N, 1, 8, 8) table."""
    side = luma.shape[-1]
    padded = functional.pad(luma, (0, -side % _BLOCK, 0, -side % _BLOCK), mode="replicate") - 128
    count, cells = len(luma), padded.shape[-1] // _BLOCK
    blocks = padded.reshape(count, cells, _BLOCK, cells, _BLOCK).transpose(2, 3)  # (N, c, c, 8, 8)
    turn = _cosines(luma.device)
    table = table[:, :, None]
    kept = (turn @ blocks @ turn.T / table).round() * table
    restored = (turn.T @ kept @ turn).transpose(2, 3).reshape(count, 1, padded.shape[-2], padded.shape[-1])
    return restored[..., :side, :side] + 128


def _cosines(device: torch.device) -> Tensor:
    """Return the orthonormal (8, 8) matrix of the discrete cosine transform."""
    place = torch.arange(_BLOCK, device=device)
    matrix = torch.cos(math.pi / _BLOCK * (place + 0.5) * place[:, None]) * math.sqrt(2 / _BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix


def _blur(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Blur by a Gaussian of a deviation from 0.7 to 3.2 % of the side."""
    del draws
    deviation = (0.007 + 0.025 * strength) * x.shape[-1]
    reach = math.ceil(0.032 * x.shape[-1] * 2.5)
    place = torch.arange(-reach, reach + 1, device=x.device)
    line = torch.exp(-0.5 * (place / deviation[:, 0, 0]) ** 2)  # (N, 2 * reach + 1)
    kernel = line[:, :, None] * line[:, None]
    return _filtered(x, kernel)


def _motion(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Smear along a line in any direction, of 3 to 14 % of the side."""
    reach = math.ceil(0.07 * x.shape[-1])
    angle = draws.uniform(1, 1) * math.pi
    length = (0.015 + 0.055 * strength[:, 0]) * x.shape[-1]
    place = torch.arange(-reach, reach + 1, device=x.device)
    rows, columns = place[:, None], place
    along = columns * angle.cos() + rows * angle.sin()
    across = rows * angle.cos() - columns * angle.sin()
    return _filtered(x, torch.exp(-(across**2)) * torch.sigmoid(2 * (length - along.abs())))


def _filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """Filter each of (N, 3, S, S) crops by a kernel of its own: (N, k, k), of any sum."""
    kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)
    reach = kernels.shape[-1] // 2
    padded = functional.pad(x, (reach,) * 4, mode="replicate")
    weights = kernels[:, None].expand(-1, x.shape[1], -1, -1).reshape(-1, 1, *kernels.shape[1:])
    flat = padded.reshape(1, -1, *padded.shape[2:])
    return functional.conv2d(flat, weights, groups=weights.shape[0]).reshape(x.shape)


def _small(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Reduce to a side from 60 % down to 16 % and enlarge again."""
    del draws
    sides = ((0.6 - 0.44 * strength[:, 0, 0, 0]) * x.shape[-1]).round().long()
    found = x.clone()
    for side in set(sides.tolist()):
        rows = torch.nonzero(sides == side)[:, 0]
        reduced = functional.interpolate(x[rows], size=side, mode="area")
        found[rows] = functional.interpolate(reduced, size=x.shape[-1], mode="bicubic", align_corners=False)
    return found


def _patch(x: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Hide a rectangle of up to 45 % of each side behind one colour."""
    side = x.shape[-1]
    extent = (0.15 + 0.3 * strength[:, 0, 0] * draws.uniform(2)) * side
    start = draws.uniform(2) * (side - extent)
    place = torch.arange(side, device=x.device)
    inside = (place >= start[..., None]) & (place < (start + extent)[..., None])  # (N, 2, S): rows and columns
    hidden = (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
    return torch.where(hidden, draws.uniform(3, 1, 1) * _WHITE, x)


# (N, 3, S, S) float32 crops, (N, 1, 1, 1) strengths and random numbers to crops, not yet clipped.
DEGRADATIONS: dict[DegradationName, Callable[[Tensor, Tensor, Draws], Tensor]] = {
    "grey": _grey,
    "tint": _tint,
    "fade": _fade,
    "dark": _dark,
    "bright": _bright,
    "grain": _grain,
    "scratches": _scratches,
    "jpeg": _jpeg,
    "blur": _blur,
    "motion": _motion,
    "small": _small,
    "patch": _patch,
}
