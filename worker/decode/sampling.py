"""Which frames of a file are taken: a rule on time stamps alone, so that borders between ranges change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TICK_TOLERANCE = 1e-6
"""Fraction of a tick by which a stamp may miss it: rational time stamps lose their last bits as floats."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One frame that was taken."""

    index: int
    at_seconds: float
    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB, upright, contiguous."""
    starts_shot: bool = False
    """Whether nothing goes on from the frame before, whatever it looks like."""


def ticks(seconds: NDArray[np.float64], frames_per_second: float) -> NDArray[np.int64]:
    """Return the number of the last tick ``k / frames_per_second`` at or before each stamp; (N,) to (N,)."""
    return np.floor(seconds * frames_per_second + TICK_TOLERANCE).astype(np.int64)


def taken(seconds: NDArray[np.float64], frames_per_second: float | None) -> NDArray[np.bool_]:
    """Mark the first stamp at or after each tick from the start of the file.

    Args:
        seconds: (N,) ascending stamps of all frames of a file, from the first frame's.
        frames_per_second: ticks a second; None takes every frame.
    """
    if frames_per_second is None:
        return np.ones(len(seconds), dtype=np.bool_)
    return np.diff(ticks(seconds, frames_per_second), prepend=-1) > 0


class Sampler:
    """The same rule as ``taken`` for frames that come one by one, in presentation order."""

    def __init__(self, frames_per_second: float | None) -> None:
        self._rate = frames_per_second
        self._last_tick = -1

    def takes(self, at_seconds: float) -> bool:
        """Tell whether the frame with this stamp is taken; ask for every frame."""
        if self._rate is None:
            return True
        tick = int(ticks(np.array([at_seconds]), self._rate)[0])
        is_first = tick > self._last_tick
        self._last_tick = max(tick, self._last_tick)
        return is_first

    def resume_after(self, at_seconds: float) -> None:
        """Go on as if the frame with this stamp had been the last one seen."""
        if self._rate is not None:
            self._last_tick = int(ticks(np.array([at_seconds]), self._rate)[0])
