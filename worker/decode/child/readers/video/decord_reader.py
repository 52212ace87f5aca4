"""Frames by number from decord, on request only: it says little of what it did, so its words and memory are watched."""

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

# First name of the container and codec where each frame proved to be the one that was asked for. decord gives no stamp
# with a frame, so a wrong one cannot be seen. Films of numbered frames showed wrong ones, without an error, for MPEG-TS
# and -PS, AVI with B-frames, WMV, HEVC and MPEG-4 part 2, and for H.264 with open groups of pictures, which the
# timeline tells; none in 490 runs over those named here.
EXACT = frozenset({("mov", "h264"), ("matroska", "h264"), ("matroska", "vp8"), ("matroska", "vp9"), ("mov", "av1")})
# Of a picture. decord makes room for every packet that it reads ahead of its decoder, as many as the scheduler lets it:
# 250 to 900 MB were seen with 1920 x 1080. PyAV needs 50 and is as fast.
MAX_PIXELS = 1280 * 720
MAX_MAPPED_BYTES = 384 << 20  # that it may map while it reads a film; on a busy machine 2 GB were seen with 640 x 360
ANY_LOSS = 1e-9  # share of frames that decord may replace by their neighbours without saying so: none
_MAX_STDERR_BYTES = 2000  # bytes
STEP_FRAMES = 100  # decoded without a sign of life: at most seconds, even for the largest pictures


class DecordFailed(Exception):  # it says that another reader is to go on, not that the file is at fault
    """decord refused the file or gave up in the middle."""


def load_decord() -> None:
    """Import decord, without the CUDA libraries that it would map (700 MB) although it decodes on the CPU here.

    Call it after every other library that decodes: decord loads its own FFmpeg for all to see, and a library that is
    bound later would find decord's functions under the names of its own.
    """
    hidden = sys.modules.get("nvidia")
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # an import that is refused; decord goes on without
    try:
        import decord  # noqa: PLC0415
    finally:
        del sys.modules["nvidia"]
        if hidden is not None:
            sys.modules["nvidia"] = hidden
    decord.logging.set_level(decord.logging.QUIET)


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Collect what is written to standard error meanwhile; the list is filled at the end.

    decord tells some of its failures nowhere else.
    """
    heard, said = os.pipe2(os.O_NONBLOCK)
    kept = os.dup(2)
    words: list[str] = []
    os.dup2(said, 2)
    try:
        yield words
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(said)
        text = os.read(heard, _MAX_STDERR_BYTES).decode(errors="replace").strip()
        os.close(heard)
        if text:
            words.append(text)


class DecordReader:
    """An opened film. Remembers its place, so that asking in ascending order decodes each frame once.

    The first frame is decoded before any seek, for the reason that ``AvReader`` gives.
    """

    def __init__(self, location: str, timeline: Timeline, threads: int, alive: Callable[[], None]) -> None:
        """Open a film.

        Args:
            location: path of the file.
            timeline: of the same file.
            threads: of its codec.
            alive: called again and again on the way to a far frame.

        Raises:
            DecordFailed: decord refuses it, or counts other frames than its packets show.
        """
        import decord  # noqa: PLC0415  # loaded by ``load_decord``, in its turn

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
        """Yield these frames, which ascend and are some of the samples of the film.

        Raises:
            DecordFailed: a frame could not be had; those before are good.
        """
        for index in indices.tolist():
            try:
                with captured_stderr() as words:
                    pixels = self._read(index)
            except self._errors as err:
                raise DecordFailed(str(err)) from err
            if words:  # such as that it skipped fewer frames than it was asked to; it raises nothing then
                raise DecordFailed(words[0])
            if memory_mapped() > self._max_mapped_bytes:
                raise DecordFailed("it reads too far ahead")
            if pixels.ndim != 3 or pixels.shape[2] != 3:
                raise DecordFailed(f"pixels of shape {pixels.shape}")
            at_seconds = float(self._timeline.seconds[index])
            hold_seconds = samples.hold_seconds(index, at_seconds)
            yield SampledFrame(index, at_seconds, np.ascontiguousarray(pixels), hold_seconds)

    def _read(self, index: int) -> NDArray[np.uint8]:
        """Go to a frame in steps, so that a long way there does not look like a hang."""
        start = max(self._position, self._timeline.key_before(index))
        for stop in range(start + STEP_FRAMES, index, STEP_FRAMES):
            self._reader.seek_accurate(stop)
            self._alive()
        pixels: NDArray[np.uint8] = self._reader[index].asnumpy()
        self._position = index + 1
        return pixels
