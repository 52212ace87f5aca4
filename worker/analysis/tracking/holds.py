"""The time for which frames stay on screen, and its meaning for faces: a slide, a frozen video, a time-lapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worker.columns import ArrayColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Sampling step of an analysis of every frame: a frame that is held no longer than this makes no pause.
DEFAULT_STEP_SECONDS = 0.2
PAUSE_FROM = 1.5  # steps from which a frame is held; below, frames of a constant rate are a little off their ticks


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Holds(ArrayColumns):
    """The times on screen of N faces."""

    screen_seconds: NDArray[np.float64]
    """(N,) time for which their frames stay on screen: until the next sampled frame, or to the end; 0 for an image."""
    pause_seconds: NDArray[np.float64]
    """(N,) by how much that exceeds a sampling step; 0 for regular frames."""
    steps: NDArray[np.float64]
    """(N,) sampling steps that they stand for; 1 for regular frames."""

    def __post_init__(self) -> None:
        self._check()

    @classmethod
    def of(cls, hold_seconds: NDArray[np.float64], step_seconds: float | None) -> Holds:
        """Compute times on screen.

        Args:
            hold_seconds: (N,) stored times; one step is taken for NaN, where none was stored.
            step_seconds: of the sampling; None for every frame and for images.
        """
        screen = np.where(np.isnan(hold_seconds), step_seconds or 0.0, hold_seconds)
        step = step_seconds or DEFAULT_STEP_SECONDS
        pause = np.where(screen > PAUSE_FROM * step, screen - step, 0.0)
        return cls(screen_seconds=screen, pause_seconds=pause, steps=1 + pause / step)
