"""Which frames of a file are taken: a rule on time stamps alone, so that borders between ranges change nothing."""

from __future__ import annotations

import math

TICK_TOLERANCE = 1e-6
"""Fraction of a tick by which a stamp may miss it: rational time stamps lose their last bits as floats."""


class Sampler:
    """Takes the first frame at or after each tick ``k / frames_per_second`` from the start of the file."""

    def __init__(self, frames_per_second: float | None) -> None:
        self._rate = frames_per_second
        self._last_tick = -1

    def takes(self, at_seconds: float) -> bool:
        """Tell whether the frame with this stamp is taken; call it for every frame, in presentation order."""
        if self._rate is None:
            return True
        tick = self._tick(at_seconds)
        taken = tick > self._last_tick
        self._last_tick = max(tick, self._last_tick)
        return taken

    def resume_after(self, at_seconds: float) -> None:
        """Go on as if the frame with this stamp had been the last one seen."""
        if self._rate is not None:
            self._last_tick = self._tick(at_seconds)

    def _tick(self, at_seconds: float) -> int:
        assert self._rate is not None  # noqa: S101  # both callers have looked
        return math.floor(at_seconds * self._rate + TICK_TOLERANCE)
