"""Tiles: parts of a large frame that are searched at a scale of their own, so that small faces keep their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.types import Detections

if TYPE_CHECKING:
    from collections.abc import Iterator

OVERLAP = 192  # pixels that neighbouring tiles share
MAX_FACE = 160  # longer side of a box in pixels up to which a tile is trusted: whole in at least one tile, with margin
BORDER = 8  # pixels: a box that comes nearer to an inner border may be cut, and is whole in the neighbouring tile
STEP = 4  # ratio of two scales: a face that is too large for the tiles of one has 40 pixels or more in the next
# Pixels: sides of tiles and frames are multiples. Images of all sizes then share a few hundred shapes, of which a new
# one costs the CPU 20 to 50 ms.
SIZE_STEP = 64
COARSER = 0.97  # ratio of two scales that are tried against the budget


@dataclass(frozen=True, slots=True)
class Grid:
    """Equal tiles that cover a frame at one scale."""

    scale: float
    """Pixels of the scaled frame to a pixel of the frame."""
    tops: tuple[int, ...]
    """Of the rows of tiles, pixels of the scaled frame."""
    lefts: tuple[int, ...]
    size: tuple[int, int]
    """Height and width of each tile."""

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def cut(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the (len(self), C, h, w) tiles of a scaled (1, C, H, W) frame."""
        height, width = self.size
        return torch.cat([pixels[:, :, y : y + height, x : x + width] for y in self.tops for x in self.lefts])

    def merge(self, found: Detections, size: tuple[int, int]) -> Detections:
        """Return the faces of tiles that are whole and small enough, in pixels of the frame and as of frame 0.

        Args:
            found: faces by tile, in pixels of the tiles.
            size: height and width of the scaled frame.
        """
        corners = torch.tensor([(x, y) for y in self.tops for x in self.lefts], dtype=torch.float32)[found.frame]
        boxes = found.boxes + corners.repeat(1, 2)
        sides = torch.tensor(self.size[::-1], dtype=torch.float32)
        limit = torch.tensor(size[::-1], dtype=torch.float32)
        cut_before = (corners > 0) & (found.boxes[:, :2] < BORDER)
        cut_behind = (corners + sides < limit) & (found.boxes[:, 2:] > sides - BORDER)
        small = (found.boxes[:, 2:] - found.boxes[:, :2]).amax(1) <= MAX_FACE
        whole = small & ~(cut_before | cut_behind).any(1)
        landmarks = (found.landmarks + corners[:, None]) / self.scale
        return Detections(torch.zeros_like(found.frame), boxes / self.scale, landmarks, found.scores)[whole]


def plan(height: int, width: int, side: int, budget: int) -> tuple[Grid, ...]:
    """Divide a large frame: at its own scale, or at the finest that the budget allows, and at coarser ones.

    Args:
        height: of the frame in pixels.
        width: of the frame in pixels.
        side: longest side of a tile in pixels; a frame up to it has no tiles.
        budget: tiles at most.
    """
    longest, scale = max(height, width), 1.0
    while longest * scale > side:
        grids = tuple(_grids(height, width, side, scale))
        if sum(map(len, grids)) <= budget:
            return grids
        scale *= COARSER
    return ()


def _grids(height: int, width: int, side: int, scale: float) -> Iterator[Grid]:
    while max(height, width) * scale > side:
        rows, columns = (_spans(max(1, round(length * scale)), side) for length in (height, width))
        yield Grid(scale, rows[0], columns[0], (rows[1], columns[1]))
        scale /= STEP


def _spans(length: int, side: int) -> tuple[tuple[int, ...], int]:
    """Cover a length by equal spans that overlap: where they begin, and how long they are."""
    if length <= side:
        return (0,), length
    count = math.ceil((length - OVERLAP) / (side - OVERLAP))
    even = math.ceil((length + (count - 1) * OVERLAP) / count)
    span = min(side, length, -(-even // SIZE_STEP) * SIZE_STEP)
    return tuple(round(i * (length - span) / (count - 1)) for i in range(count)), span
