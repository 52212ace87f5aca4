"""Reads frames by number with decord, on request only. It reports few errors, so its stderr and memory are watched."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.decode.child.confine import memory_mapped
from worker.decode.child.readers.sampling import SampledFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from worker.decode.child.readers.video.timeline import SampledFrames, Timeline

# First name of the container, and codec, for which every frame proved to be the requested one. decord returns frames
# without stamps, so a wrong frame cannot be detected. Videos of numbered frames had wrong frames, without an error, for
# MPEG-TS and -PS, AVI with B-frames, WMV, HEVC and MPEG-4 part 2, and for H.264 with open groups of pictures, which the
# timeline detects; none in 490 runs over those named here.
EXACT = frozenset({("mov", "h264"), ("matroska", "h264"), ("matroska", "vp8"), ("matroska", "vp9"), ("mov", "av1")})
# Of a frame. decord buffers every packet that it reads ahead of its decoder, as many as the scheduler permits: 250 to
# 900 MB were measured with 1920 x 1080. PyAV needs 50 MB and is as fast.
MAX_PIXELS = 1280 * 720
MAX_MAPPED_BYTES = 384 << 20  # while it reads a video; on a busy machine 2 GB were measured with 640 x 360
ANY_LOSS = 1e-9  # share of frames that decord may silently replace by their neighbours: none
_MAX_STDERR_BYTES = 2000
STEP_FRAMES = 100  # decoded between two signs of life: seconds at most, even for the largest frames


class DecordFailed(Exception):  # another reader resumes; the file is not at fault
    """decord refused the file or failed while reading it."""


def load_decord() -> None:
    """Import decord without the CUDA libraries that it would map (700 MB), although it decodes on the CPU here.

    Call it after loading every other library that decodes: decord loads its own FFmpeg with global symbols, and a
    library that is loaded later would be bound to decord's functions.
    """
    hidden = sys.modules.get("nvidia")
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # its import is refused, and decord works without it
    try:
        import decord  # noqa: PLC0415
    finally:
        del sys.modules["nvidia"]
        if hidden is not None:
            sys.modules["nvidia"] = hidden
    decord.logging.set_level(decord.logging.QUIET)


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Capture standard error during the context; the list is filled at its end.

    decord reports some failures only there.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK)
    kept = os.dup(2)
    lines: list[str] = []
    os.dup2(writing, 2)
    try:
        yield lines
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(writing)
        text = os.read(reading, _MAX_STDERR_BYTES).decode(errors="replace").strip()
        os.close(reading)
        if text:
            lines.append(text)


class DecordReader:
    """An open video. It keeps its position, so that reading in ascending order decodes each frame once.

    The first frame is decoded before any seek, for the reason that ``AvReader`` gives.
    """

    def __init__(self, location: str, timeline: Timeline, threads: int, alive: Callable[[], None]) -> None:
        """Open a video.

        Args:
            location: path of the file.
            timeline: of the same file.
            threads: of its codec.
            alive: called repeatedly on the way to a distant frame.

        Raises:
            DecordFailed: decord refuses it, or counts another number of frames than its packets.
        """
        import decord  # noqa: PLC0415  # loaded before by ``load_decord``

        self._errors = (
            decord.DECORDError,
            decord.DECORDLimitReachedError,
            RuntimeError,
            AssertionError,
            IndexError,
            MemoryError,
        )
        self._timeline = timeline
        self._alive = alive
        self._position = 0
        self._max_mapped_bytes = memory_mapped() + MAX_MAPPED_BYTES
        try:
            self._reader: Any = decord.VideoReader(location, num_threads=threads, fault_tol=ANY_LOSS)
            count = len(self._reader)
            self._reader.seek_accurate(0)
            self._reader.next()  # see the class
        except self._errors as err:
            raise DecordFailed(str(err)) from err
        if count != len(timeline):
            raise DecordFailed(f"{count} frames, the packets have {len(timeline)}")

    def frames(self, indices: NDArray[np.int64], samples: SampledFrames) -> Iterator[SampledFrame]:
        """Yield these frames, in ascending order; they belong to the samples of the video.

        Raises:
            DecordFailed: a frame could not be read; the frames before it are valid.
        """
        for index in indices.tolist():
            try:
                with captured_stderr() as lines:
                    pixels = self._read(index)
            except self._errors as err:
                raise DecordFailed(str(err)) from err
            if lines:  # such as skipping fewer frames than requested, which raises no error
                raise DecordFailed(lines[0])
            if memory_mapped() > self._max_mapped_bytes:
                raise DecordFailed("it reads too far ahead")
            if pixels.ndim != 3 or pixels.shape[2] != 3:
                raise DecordFailed(f"pixels of shape {pixels.shape}")
            at_seconds = float(self._timeline.seconds[index])
            hold_seconds = samples.hold_seconds(index, at_seconds)
            yield SampledFrame(index, at_seconds, np.ascontiguousarray(pixels), hold_seconds)

    def _read(self, index: int) -> NDArray[np.uint8]:
        """Go to a frame in steps, so that a long seek is not taken for a hang."""
        start = max(self._position, self._timeline.key_before(index))
        for stop in range(start + STEP_FRAMES, index, STEP_FRAMES):
            self._reader.seek_accurate(stop)
            self._alive()
        pixels: NDArray[np.uint8] = self._reader[index].asnumpy()
        self._position = index + 1
        return pixels
