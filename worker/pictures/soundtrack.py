"""Encodes the sound of a video beside its drawn frames, sample for sample at its own time."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from numpy.typing import NDArray

    from worker.types import SoundBlock, SoundTrack

BITS_PER_CHANNEL = 96_000  # a second, of AAC: no audible loss
MAX_SILENCE_SECONDS = 3600  # between two sounds of a track; the sound of a longer pause is not written


class Soundtrack:
    """Write blocks of sound into a container, never ahead of its frames.

    Args:
        container: the video that is written; before its first packet.
        tracks: forms of the tracks.
        blocks: samples of all tracks, in the order of the file.
    """

    def __init__(self, container: OutputContainer, tracks: Sequence[SoundTrack], blocks: Iterator[SoundBlock]) -> None:
        self._container = container
        self._tracks = [_Track(container, track) for track in tracks]
        self._blocks = blocks
        self._waiting: SoundBlock | None = None

    def write_until(self, seconds: float) -> None:
        """Write the sound that begins before a time."""
        while (block := self._waiting or next(self._blocks, None)) is not None:
            track = self._tracks[block.track]
            self._waiting = block if block.start >= seconds * track.rate else None
            if self._waiting is not None:
                return
            track.write(block)

    def finish(self) -> None:
        """Write the rest, which may last longer than the frames."""
        self.write_until(float("inf"))
        for track in self._tracks:
            track.finish()


class _Track:
    """One encoder."""

    def __init__(self, container: OutputContainer, track: SoundTrack) -> None:
        self.rate = track.rate
        self._channels, self._layout = track.channels, track.layout
        self._container = container
        self._stream: AudioStream = container.add_stream("aac", rate=track.rate, layout=track.layout)
        self._stream.bit_rate = BITS_PER_CHANNEL * track.channels
        self._stream.metadata["language"] = track.language
        self._count = 0

    def write(self, block: SoundBlock) -> None:
        """Encode a block; a pause before it becomes silence, and samples of a time that was written are left out."""
        pause = block.start - self._count
        if pause > MAX_SILENCE_SECONDS * self.rate:
            return
        while pause > 0:
            silence = min(pause, self.rate)
            self._encode(np.zeros((silence, self._channels), np.int16))
            pause -= silence
        fresh = block.samples[max(self._count - block.start, 0) :]
        if len(fresh):
            self._encode(fresh)

    def finish(self) -> None:
        """Encode what waits for a whole frame of the codec."""
        if self._count:
            self._container.mux(self._stream.encode(None))

    def _encode(self, samples: NDArray[np.int16]) -> None:
        packed = np.ascontiguousarray(samples).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self._count, Fraction(1, self.rate)
        self._container.mux(self._stream.encode(frame))
        self._count += len(samples)
