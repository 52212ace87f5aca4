"""Computes the time of frames in decoding order, for videos whose packets do not state it beforehand."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import VideoFrame

DEFAULT_FRAMES_PER_SECOND = 25.0  # of a video that states neither stamps nor a rate


class Clock:
    """Seconds from the start of a video; they never decrease, even if stamps are missing or restart."""

    def __init__(
        self, rate: float | None, *, zero: Fraction | None = None, longest_step_seconds: float = float("inf")
    ) -> None:
        """Start the clock.

        Args:
            rate: frames per second, for frames without a stamp; None where it is not known.
            zero: stamp in seconds at which the video starts; None where the stamps are meaningless.
            longest_step_seconds: a stamp that is further ahead belongs to another clock.
        """
        self._step = 1 / (rate or DEFAULT_FRAMES_PER_SECOND)
        self._origin = zero
        self._longest = longest_step_seconds
        self._last: float | None = None

    def seconds(self, frame: VideoFrame) -> float:
        """Return the time of the next frame."""
        expected = 0.0 if self._last is None else self._last + self._step
        stamp = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
        if self._origin is None or stamp is None:
            self._last = expected
            return expected
        step = float(stamp - self._origin) - (self._last or 0.0)
        if self._last is not None and not 0 < step <= self._longest:  # another clock started
            self._origin = stamp - Fraction(expected)
        self._last = max(float(stamp - self._origin), 0.0)
        return self._last

    def length(self, frame: VideoFrame) -> float:
        """Return how long a frame is shown, as it states or by the rate."""
        stated = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        return stated if stated > 0 else self._step
