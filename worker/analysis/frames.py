"""Decoded frames of one size, gathered across units until there are enough of them to search at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.ledger.units import LeasedUnit
    from worker.types import DecodedFrame, MediaKind

    Key = tuple[MediaKind, tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """B frames of one size and kind, of U units."""

    pixels: NDArray[np.uint8]
    """(B, H, W, 3) RGB, upright."""
    index: NDArray[np.int64]
    """(B,) number of the frame in its file."""
    at_seconds: NDArray[np.float64]
    """(B,) presentation time stamp."""
    hold_seconds: NDArray[np.float64]
    """(B,) time until the next sampled frame, or to the end; 0.0 for an image."""
    units: tuple[LeasedUnit, ...]
    """(U,) in the order of their first frames."""
    unit_row: NDArray[np.int64]
    """(B,) place in `units` of the frame's unit."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def kind(self) -> MediaKind:
        """The kind of all units."""
        return self.units[0].kind

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return (self.pixels.shape[2], self.pixels.shape[1])

    @property
    def frame_counts(self) -> list[int]:
        """(U,) frames of each unit."""
        counts: list[int] = np.bincount(self.unit_row, minlength=len(self.units)).tolist()
        return counts


@dataclass(frozen=True, slots=True)
class _UnitFrame:
    unit: LeasedUnit
    frame: DecodedFrame


class FrameBatcher:
    """Gathers frames by kind and size.

    Args:
        max_frames: of one batch.
        max_bytes: pixels of one batch; a single frame may have more.
    """

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._waiting: dict[Key, list[_UnitFrame]] = {}

    def add(self, unit: LeasedUnit, frame: DecodedFrame) -> FrameBatch | None:
        """Add a frame; returns the batch that it fills."""
        key = (unit.kind, frame.pixels.shape)
        waiting = self._waiting.setdefault(key, [])
        waiting.append(_UnitFrame(unit, frame))
        if len(waiting) < self._max_frames and (len(waiting) + 1) * frame.pixels.nbytes <= self._max_bytes:
            return None
        return _batch(self._waiting.pop(key))

    def take_all(self) -> list[FrameBatch]:
        """Remove and return what waits, one batch for each kind and size, full or not."""
        waiting, self._waiting = self._waiting, {}
        return [_batch(frames) for frames in waiting.values()]

    def drop(self, unit: LeasedUnit) -> None:
        """Remove the frames of a unit."""
        for key, frames in list(self._waiting.items()):
            kept = [one for one in frames if one.unit.unit_id != unit.unit_id]
            if kept:
                self._waiting[key] = kept
            else:
                del self._waiting[key]


def _batch(waiting: list[_UnitFrame]) -> FrameBatch:
    frames = [one.frame for one in waiting]
    units = {one.unit.unit_id: one.unit for one in waiting}
    rows = {unit_id: row for row, unit_id in enumerate(units)}
    return FrameBatch(
        pixels=np.stack([frame.pixels for frame in frames]),
        index=np.array([frame.index for frame in frames], np.int64),
        at_seconds=np.array([frame.at_seconds for frame in frames], np.float64),
        hold_seconds=np.array([frame.hold_seconds for frame in frames], np.float64),
        units=tuple(units.values()),
        unit_row=np.array([rows[one.unit.unit_id] for one in waiting], np.int64),
    )
