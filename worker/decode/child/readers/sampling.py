"""Samples frames of a file by their time stamps alone, so that borders between ranges change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Fraction of a tick by which a stamp may precede it: rational time stamps lose their last bits as floats.
TICK_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """A sampled frame."""

    index: int
    at_seconds: float
    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB, upright, contiguous."""
    hold_seconds: float = 0.0
    """Until the next sampled frame, or to the end of the video; 0 for an image."""
    starts_shot: bool = False
    """Whether it continues nothing, even if it resembles the frame before it."""


def ticks(seconds: NDArray[np.float64], frames_per_second: float) -> NDArray[np.int64]:
    """Return the number of the last tick ``k / frames_per_second`` at or before each stamp; (N,) to (N,)."""
    return np.floor(seconds * frames_per_second + TICK_TOLERANCE).astype(np.int64)


def taken(seconds: NDArray[np.float64], frames_per_second: float | None, end_seconds: float) -> NDArray[np.bool_]:
    """Mark the first stamp at or after each tick, and each frame that stays on screen from one tick to the next.

    The latter follows its tick and precedes a pause: no other frame shows that time. Ticks count from the first frame.

    Args:
        seconds: (N,) ascending stamps of all frames of a file, from the start of the video.
        frames_per_second: ticks a second; None takes every frame.
        end_seconds: end of the last frame.
    """
    if frames_per_second is None:
        return np.ones(len(seconds), dtype=np.bool_)
    if not len(seconds):
        return np.zeros(0, dtype=np.bool_)
    numbers = ticks(np.append(seconds, max(end_seconds, seconds[-1])) - seconds[0], frames_per_second)
    return (np.diff(numbers[:-1], prepend=-1) > 0) | (np.diff(numbers) > 1)


class Sampler:
    """Apply the rule of ``taken`` to frames that arrive one by one, in presentation order."""

    def __init__(self, frames_per_second: float | None, first_seconds: float | None = None) -> None:
        """Start before the first frame.

        Args:
            frames_per_second: ticks a second; None takes every frame.
            first_seconds: stamp of the first frame of the file, from which ticks count; None: that of the next frame.
        """
        self._rate = frames_per_second
        self._first = first_seconds
        self._last_tick = -1

    def takes(self, at_seconds: float, until_seconds: float) -> bool:
        """Return whether a frame is sampled; call it for every frame.

        Args:
            at_seconds: its stamp.
            until_seconds: stamp of the next frame, or the end of the video.
        """
        if self._rate is None:
            return True
        self._first = at_seconds if self._first is None else self._first
        tick, following = ticks(np.array([at_seconds, until_seconds]) - self._first, self._rate).tolist()
        is_taken: bool = tick > self._last_tick or following - tick > 1
        self._last_tick = max(tick, self._last_tick)
        return is_taken

    def resume_after(self, at_seconds: float) -> None:
        """Continue as if the frame with this stamp had been the last one."""
        if self._rate is not None:
            self._last_tick = int(ticks(np.array([at_seconds]) - (self._first or 0.0), self._rate)[0])
