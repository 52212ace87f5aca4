"""The time for which frames stay on screen, and its meaning for faces: a slide, a frozen film, a time-lapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worker.columns import ArrayColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_STEP_SECONDS = 0.2
"""Of an analysis of every frame: what is held no longer than this is no pause."""
PAUSE_FROM = 1.5
"""Steps from which on a frame is held: below, frames of a constant rate only miss their ticks by a little."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Holds(ArrayColumns):
    """Of N faces."""

    screen_seconds: NDArray[np.float64]
    """(N,) how long their frames stand for the film: until the next sampled frame, or to the end; 0 for a still."""
    pause_seconds: NDArray[np.float64]
    """(N,) how much longer that is than a sampling step; 0 for frames that come as usual."""
    steps: NDArray[np.float64]
    """(N,) sampling steps that they stand for; 1 for frames that come as usual."""

    def __post_init__(self) -> None:
        self._check()

    @classmethod
    def of(cls, hold_seconds: NDArray[np.float64], step_seconds: float | None) -> Holds:
        """Compute them.

        Args:
            hold_seconds: (N,) stored times; NaN where it was not stored, so that one step is taken for it.
            step_seconds: of the sampling; None for every frame and for stills.
        """
        screen = np.where(np.isnan(hold_seconds), step_seconds or 0.0, hold_seconds)
        step = step_seconds or DEFAULT_STEP_SECONDS
        pause = np.where(screen > PAUSE_FROM * step, screen - step, 0.0)
        return cls(screen_seconds=screen, pause_seconds=pause, steps=1 + pause / step)
