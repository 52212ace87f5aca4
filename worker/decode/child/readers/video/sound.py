"""Reads the sound of a video as plain samples, timed from the start of its frames.

A parent that copied the encoded packets would parse bytes of the file in a process that is not confined.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np
from av import AudioResampler
from av.error import FFmpegError

from worker.decode.child.readers.video.container import open_video
from worker.types import MAX_SOUND_TRACKS, SOUND_LAYOUTS, SOUND_RATES, SoundBlock, SoundTrack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    from av import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

# A stamp that differs less from the end of the samples before it is rounding of the container, as in Matroska.
SAME_TIME_SECONDS = 0.04
DEFAULT_SAMPLE_RATE = 48_000  # samples a second, of sound whose own rate the common codecs lack


class SoundReader:
    """The audio streams of an open file.

    Args:
        location: of the file.
    """

    def __init__(self, location: str) -> None:
        self._container = open_video(location)
        readable = [stream for stream in self._container.streams.audio if stream.codec_context is not None]
        self._streams = readable[:MAX_SOUND_TRACKS]
        self.tracks = tuple(_describe(stream) for stream in self._streams)

    def close(self) -> None:
        """Release the file."""
        self._container.close()

    def blocks(self, zero: Fraction, longest_pause: float, alive: Callable[[], None]) -> Iterator[SoundBlock]:
        """Yield the samples of all tracks in the order of the file; packets that cannot be decoded are skipped.

        Args:
            zero: stamp in seconds at which the video starts; samples before it are left out.
            longest_pause: seconds; a stamp that is further ahead belongs to another clock.
            alive: called repeatedly.
        """
        if not self._streams:
            return
        places = {stream.index: number for number, stream in enumerate(self._streams)}
        tracks = [_Samples(number, track, zero, longest_pause) for number, track in enumerate(self.tracks)]
        for packet in _packets(self._container, self._streams):
            alive()
            try:
                frames = packet.decode()
            except FFmpegError:
                continue
            for frame in frames:
                yield from tracks[places[packet.stream_index]].blocks(frame)


@dataclass(slots=True)
class _Samples:
    """Converts the frames of one track and counts its samples."""

    number: int
    track: SoundTrack
    zero: Fraction
    longest_pause: float
    _next: int | None = None
    """Place of the next sample, from the start of the video."""
    _converter: AudioResampler | None = None
    _source: tuple[str, str, int] = field(default=("", "", 0))

    def blocks(self, frame: AudioFrame) -> Iterator[SoundBlock]:
        self._place(frame)
        for converted in self._resampler(frame).resample(frame):
            samples = converted.to_ndarray().reshape(-1, self.track.channels)
            start = self._next or 0
            self._next = start + len(samples)
            if start < 0:
                samples, start = samples[-start:], 0
            if len(samples):
                yield SoundBlock(self.number, start, np.ascontiguousarray(samples, np.int16))

    def _place(self, frame: AudioFrame) -> None:
        """Follow the frame's stamp, if it is not where the samples before it end."""
        if frame.pts is None or frame.time_base is None:
            return
        stated = round((frame.pts * frame.time_base - self.zero) * self.track.rate)
        if self._next is None or SAME_TIME_SECONDS < (stated - self._next) / self.track.rate <= self.longest_pause:
            self._next = stated

    def _resampler(self, frame: AudioFrame) -> AudioResampler:
        """Return a converter from the frame's format, which may change within a stream."""
        source = frame.format.name, frame.layout.name, frame.sample_rate
        if self._converter is None or source != self._source:
            self._converter = AudioResampler("s16", self.track.layout, self.track.rate)
            self._source = source
        return self._converter


def _describe(stream: AudioStream) -> SoundTrack:
    context = stream.codec_context
    rate = context.sample_rate if context.sample_rate in SOUND_RATES else DEFAULT_SAMPLE_RATE
    layout = context.layout.name if context.layout.name in SOUND_LAYOUTS else "stereo"
    return SoundTrack(rate, layout, str(stream.language or "und"))


def _packets(container: InputContainer, streams: list[AudioStream]) -> Iterator[Packet[AudioStream]]:
    """Yield packets up to the end of the file, or to its truncation."""
    packets = cast("Iterator[Packet[AudioStream]]", container.demux(*streams))
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            return
        if packet is None:
            return
        yield packet
