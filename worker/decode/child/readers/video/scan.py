"""Reads the packets of a video once, without decoding: the time of every frame, start and end of the video."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from av.error import FFmpegError

from worker.decode.child.readers.video.container import StatedEnd, frames_per_second, stated_end, too_many_frames
from worker.decode.child.readers.video.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

# Containers without a global clock, in which recordings are joined and unrelated programmes are multiplexed.
BROADCASTS = frozenset({"mpegts", "mpeg"})
MAX_BROADCAST_PAUSE_SECONDS = 3600  # in a broadcast; a larger step of the stamps means another clock
# Between audio and video at one place of a broadcast; a larger difference means another programme.
SAME_CLOCK_SECONDS = 10
# Containers whose packets have a duration, their own or a common one: AVI fills pauses with empty packets.
STORE_LENGTHS = frozenset({"mov", "avi"})
EARLY_FRAMES = 50  # audio packets behind so many frames do not precede the video


@dataclass(frozen=True, slots=True)
class Scan:
    """Facts from the packets of a video."""

    timeline: Timeline | None
    """None for packets without stamps, for equal stamps of two frames, and for clocks that restart."""
    zero: Fraction
    """Stamp in seconds at which the video starts: that of its first audio or frame, as in players."""
    duration_seconds: float | None
    """From ``zero`` to the end of the last audio or frame; the sum over all clocks where they restart."""
    frame_count: int


def scan(
    container: InputContainer, stream: VideoStream, *, max_frames: int, alive: Callable[[], None], location: str
) -> Scan:
    """Read all packets of a video and sort their stamps; the container is at its end afterwards.

    Args:
        container: an open video, at its start.
        stream: its video stream.
        max_frames: limit of the file.
        alive: called repeatedly.
        location: path of the file.

    Raises:
        MediaRejected: ``too_many_frames``.
    """
    audio_streams = _audio_streams(container, stream)
    name = container.format.name.split(",")[0]
    video, audio = _VideoPackets(stream, name in BROADCASTS, name in STORE_LENGTHS), _AudioPackets()
    try:
        for packet in container.demux(stream, *audio_streams):
            alive()
            if packet.stream_index != stream.index:
                audio.note(packet, is_early=video.count <= EARLY_FRAMES)
            elif packet.size or packet.pts is not None:
                video.note(packet)
                audio.compare(packet)
            if video.count > max_frames:
                raise too_many_frames(max_frames)
    except FFmpegError:
        # the packets of a truncated file count as far as they were read; decoding will end at the same place
        video.has_usable_stamps = video.has_usable_stamps and bool(video.shown)
    if video.is_broadcast and audio.is_foreign:
        audio = _AudioPackets()
    return _result(video, audio, stated_end(container, stream, location))


def _audio_streams(container: InputContainer, stream: VideoStream) -> list[AudioStream]:
    """Return the audio streams of a video; of a broadcast, the one of the same programme."""
    if container.format.name not in BROADCASTS:
        return list(container.streams.audio)
    best = container.streams.best("audio", related=stream)
    return [] if best is None else [best]  # type: ignore[list-item]  # of the requested type


@dataclass(slots=True)
class _VideoPackets:
    """Collects the packets of the video stream."""

    stream: VideoStream
    is_broadcast: bool
    stores_lengths: bool
    """Whether the container stores the duration of each frame."""
    shown: array[int] = field(default_factory=lambda: array("q"))
    keys: list[tuple[int, int]] = field(default_factory=list)
    has_usable_stamps: bool = True
    is_plain: bool = True
    count: int = 0
    """Frames, with or without a stamp."""
    past: int = 0
    """Duration of the clocks that have ended."""
    last_length: int = 0
    """Of the last packet, in units of the time base; 0 where it is not known."""
    _low: int | None = None
    _high: int = 0
    """First and last stamp of the current clock."""
    _begin: int | None = None
    """First stamp of the first clock, once it has ended."""
    _last_decoding: int | None = None

    def note(self, packet: Packet[Stream]) -> None:
        self.count += bool(packet.size) and not packet.is_discard
        if packet.pts is None:
            self.has_usable_stamps = False
            return
        if packet.dts is not None:
            self._follow(packet.dts)
        if not packet.is_discard:
            self._low = packet.pts if self._low is None else min(self._low, packet.pts)
            self._high = max(self._high, packet.pts)
            self.last_length = packet.duration or 0
        if not packet.size:  # the frame before it stays
            return
        self.is_plain = self.is_plain and not packet.is_discard and not (self.keys and packet.pts < self.keys[-1][0])
        if packet.is_keyframe:
            self.keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
        if not packet.is_discard:
            self.shown.append(packet.pts)

    def _follow(self, decoding: int) -> None:
        last, self._last_decoding = self._last_decoding, decoding
        if last is None:
            return
        ahead = (decoding - last) * (self.stream.time_base or 1)
        if ahead < 0 or (self.is_broadcast and ahead > MAX_BROADCAST_PAUSE_SECONDS):
            self.has_usable_stamps = False
            self.past += self.high - (self._low or 0)
            self._begin = self._low if self._begin is None else self._begin
            self._low, self._high = None, -(1 << 62)

    @property
    def first(self) -> int:
        """First stamp of the first clock, in the order of presentation."""
        return self._begin if self._begin is not None else self._low or 0

    @property
    def length(self) -> int:
        """Duration of all clocks together, in units of the time base."""
        return self.past + (self.high - self._low if self._low is not None else 0)

    @property
    def high(self) -> int:
        """End of the last frame under the latest clock."""
        return self._high + self.last_length


@dataclass(slots=True)
class _AudioPackets:
    """Notes the time of the audio packets."""

    first: Fraction | None = None
    end: Fraction | None = None

    is_foreign: bool = False
    """Whether its clock is another one than that of the video."""
    _latest: Fraction | None = None

    def note(self, packet: Packet[Stream], *, is_early: bool) -> None:
        if packet.pts is None or not packet.size or packet.time_base is None:
            return
        at, until = packet.pts * packet.time_base, (packet.pts + (packet.duration or 0)) * packet.time_base
        if is_early:
            self.first = at if self.first is None else min(self.first, at)
        self.end = until if self.end is None else max(self.end, until)
        self._latest = at

    def compare(self, packet: Packet[Stream]) -> None:
        """Compare the clock with that of a video packet at the same place of the file."""
        if self._latest is not None and packet.dts is not None and packet.time_base is not None:
            apart = abs(packet.dts * packet.time_base - self._latest)
            self.is_foreign = self.is_foreign or apart > SAME_CLOCK_SECONDS


def _result(video: _VideoPackets, audio: _AudioPackets, stated: StatedEnd) -> Scan:
    base = video.stream.time_base
    if base is None or not video.shown:
        rate = frames_per_second(video.stream)
        return Scan(None, Fraction(0), video.count / rate if rate else None, video.count)
    stamps = np.unique(np.array(video.shown, dtype=np.int64))
    has_timeline = video.has_usable_stamps and len(stamps) == len(video.shown)
    first = (int(stamps[0]) if video.has_usable_stamps else video.first) * base
    zero = _zero(first, audio, is_broadcast=video.is_broadcast)
    late = float(first - zero)
    if not has_timeline:
        return Scan(None, zero, float(video.length * base) + late, video.count)
    pairs = np.array(sorted(video.keys), dtype=np.int64).reshape(-1, 2)
    seconds = (stamps - stamps[0]) * base.numerator / base.denominator + late
    if not video.stores_lengths and stated.stream is None and len(stamps) > 1:
        video.last_length = max(video.last_length, int(np.median(np.diff(stamps))))
    end = max(_end(video, audio, stated) - float(zero), float(seconds[-1]))
    timeline = Timeline(stamps, seconds, end, pairs[:, 0], pairs[:, 1], video.is_plain)
    return Scan(timeline, zero, max(end, float((audio.end or zero) - zero)), video.count)


def _zero(first: Fraction, audio: _AudioPackets, *, is_broadcast: bool) -> Fraction:
    """Return where the video starts: at its first frame, or before it with its audio.

    Audio before zero primes the decoder and is not played.
    """
    if audio.first is None or audio.first >= first:
        return first
    return audio.first if is_broadcast else min(first, max(audio.first, Fraction(0)))


def _end(video: _VideoPackets, audio: _AudioPackets, stated: StatedEnd) -> float:
    """Return the stamp at which the last frame ends.

    It has the duration of the last packet: containers store durations in decoding order. Where they store none, the
    duration follows from the rate and from the median distance of frames. A later end that the track states takes
    precedence. Where no duration is known, the frame lasts to the end of the file.
    """
    ends = [float(video.high * (video.stream.time_base or 1))]
    ends += [stated.stream] if stated.stream is not None else []
    if stated.stream is None and (audio.end is None or not video.last_length):
        ends += [float(end) for end in (audio.end, stated.file) if end is not None]
    return max(ends)
