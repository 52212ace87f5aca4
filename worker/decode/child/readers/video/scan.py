"""Reads the packets of a film once, without decoding any: the time of every frame, where the film begins and ends."""

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

# Containers without a clock of their own, in which recordings are joined and unrelated programmes lie side by side.
BROADCASTS = frozenset({"mpegts", "mpeg"})
MAX_PAUSE_SECONDS = 3600  # in a broadcast; a stamp that is further ahead belongs to another clock
# Between sound and picture at one place of a broadcast; what is further apart belongs to another programme.
SAME_CLOCK_SECONDS = 10
# Containers whose packets have a length of their own, or one and the same: AVI fills pauses with empty packets.
STORE_LENGTHS = frozenset({"mov", "avi"})
EARLY_FRAMES = 50  # sound behind so many frames does not come before the picture


@dataclass(frozen=True, slots=True)
class Scan:
    """Facts that the packets of a film state."""

    timeline: Timeline | None
    """None where they do not tell: without stamps, with one stamp for two frames, or with clocks that restart."""
    zero: Fraction
    """Stamp in seconds at which the film starts: that of its first sound or picture, as players count."""
    duration_seconds: float | None
    """From there to the end of the last sound or picture; over all clocks where they restart."""
    frame_count: int


def scan(
    container: InputContainer, stream: VideoStream, *, max_frames: int, alive: Callable[[], None], location: str
) -> Scan:
    """Read all packets of a film and put their stamps in order; the container is left at its end.

    Args:
        container: an opened film, at its start.
        stream: its picture.
        max_frames: limit of the file.
        alive: called again and again.
        location: path of the file.

    Raises:
        MediaRejected: ``too_many_frames``.
    """
    sounds = _sounds(container, stream)
    name = container.format.name.split(",")[0]
    picture, sound = _VideoPackets(stream, name in BROADCASTS, name in STORE_LENGTHS), _AudioPackets()
    try:
        for packet in container.demux(stream, *sounds):
            alive()
            if packet.stream_index != stream.index:
                sound.note(packet, is_early=picture.count <= EARLY_FRAMES)
            elif packet.size or packet.pts is not None:
                picture.note(packet)
                sound.compare(packet)
            if picture.count > max_frames:
                raise too_many_frames(max_frames)
    except FFmpegError:
        # a file that breaks off tells as much as was read; decoding will meet the same end
        picture.tells = picture.tells and bool(picture.shown)
    if picture.is_broadcast and sound.is_foreign:
        sound = _AudioPackets()
    return _result(picture, sound, stated_end(container, stream, location))


def _sounds(container: InputContainer, stream: VideoStream) -> list[AudioStream]:
    """Return the sound that belongs to a picture; of the programmes of a broadcast, that of its own."""
    if container.format.name not in BROADCASTS:
        return list(container.streams.audio)
    best = container.streams.best("audio", related=stream)
    return [] if best is None else [best]  # type: ignore[list-item]  # of this type, as was asked


@dataclass(slots=True)
class _VideoPackets:
    """Collects the packets of the picture."""

    stream: VideoStream
    is_broadcast: bool
    stores_lengths: bool
    """Whether the container stores how long each frame is."""
    shown: array[int] = field(default_factory=lambda: array("q"))
    keys: list[tuple[int, int]] = field(default_factory=list)
    tells: bool = True
    is_plain: bool = True
    count: int = 0
    """Frames, with or without a stamp."""
    past: int = 0
    """Length of the clocks that have ended."""
    last_length: int = 0
    """Of the packet that came last, in units of the time base; 0 where it is not known."""
    _low: int | None = None
    _high: int = 0
    """First and last stamp of the current clock."""
    _begin: int | None = None
    """First stamp of the first clock, once it has ended."""
    _last_decoding: int | None = None

    def note(self, packet: Packet[Stream]) -> None:
        self.count += bool(packet.size) and not packet.is_discard
        if packet.pts is None:
            self.tells = False
            return
        if packet.dts is not None:
            self._follow(packet.dts)
        if not packet.is_discard:
            self._low = packet.pts if self._low is None else min(self._low, packet.pts)
            self._high = max(self._high, packet.pts)
            self.last_length = packet.duration or 0
        if not packet.size:  # the picture before it stays
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
        if ahead < 0 or (self.is_broadcast and ahead > MAX_PAUSE_SECONDS):
            self.tells = False
            self.past += self.high - (self._low or 0)
            self._begin = self._low if self._begin is None else self._begin
            self._low, self._high = None, -(1 << 62)

    @property
    def first(self) -> int:
        """First stamp of the first clock, in the order of presentation."""
        return self._begin if self._begin is not None else self._low or 0

    @property
    def length(self) -> int:
        """Of all clocks together, in units of the time base."""
        return self.past + (self.high - self._low if self._low is not None else 0)

    @property
    def high(self) -> int:
        """End of the last frame under the latest clock."""
        return self._high + self.last_length


@dataclass(slots=True)
class _AudioPackets:
    """Notes from when to when there is sound."""

    first: Fraction | None = None
    end: Fraction | None = None

    is_foreign: bool = False
    """Its clock is not the picture's."""
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
        """Compare with the picture at the same place of the file."""
        if self._latest is not None and packet.dts is not None and packet.time_base is not None:
            apart = abs(packet.dts * packet.time_base - self._latest)
            self.is_foreign = self.is_foreign or apart > SAME_CLOCK_SECONDS


def _result(picture: _VideoPackets, sound: _AudioPackets, stated: StatedEnd) -> Scan:
    base = picture.stream.time_base
    if base is None or not picture.shown:
        rate = frames_per_second(picture.stream)
        return Scan(None, Fraction(0), picture.count / rate if rate else None, picture.count)
    stamps = np.unique(np.array(picture.shown, dtype=np.int64))
    tells = picture.tells and len(stamps) == len(picture.shown)
    first = (int(stamps[0]) if picture.tells else picture.first) * base
    zero = _zero(first, sound, is_broadcast=picture.is_broadcast)
    late = float(first - zero)
    if not tells:
        return Scan(None, zero, float(picture.length * base) + late, picture.count)
    pairs = np.array(sorted(picture.keys), dtype=np.int64).reshape(-1, 2)
    seconds = (stamps - stamps[0]) * base.numerator / base.denominator + late
    if not picture.stores_lengths and stated.picture is None and len(stamps) > 1:
        picture.last_length = max(picture.last_length, int(np.median(np.diff(stamps))))
    end = max(_end(picture, sound, stated) - float(zero), float(seconds[-1]))
    timeline = Timeline(stamps, seconds, end, pairs[:, 0], pairs[:, 1], picture.is_plain)
    return Scan(timeline, zero, max(end, float((sound.end or zero) - zero)), picture.count)


def _zero(first: Fraction, sound: _AudioPackets, *, is_broadcast: bool) -> Fraction:
    """Return where the film starts: at its first picture, or before it with its sound.

    Sound before zero is what a decoder needs to begin with and is not heard.
    """
    if sound.first is None or sound.first >= first:
        return first
    return sound.first if is_broadcast else min(first, max(sound.first, Fraction(0)))


def _end(picture: _VideoPackets, sound: _AudioPackets, stated: StatedEnd) -> float:
    """Return the stamp at which the last frame goes.

    It has the length of the packet that comes last: containers store lengths in the order of decoding. Where they store
    none, that length follows from the rate, and the usual distance of frames counts, too. Where the track says that it
    goes on, it does; and where nothing says how long it is, it stays to the end of the film.
    """
    ends = [float(picture.high * (picture.stream.time_base or 1))]
    ends += [stated.picture] if stated.picture is not None else []
    if stated.picture is None and (sound.end is None or not picture.last_length):
        ends += [float(end) for end in (sound.end, stated.film) if end is not None]
    return max(ends)
