"""Reads videos: sampled frames of a time range, upright and in RGB, with the time stamps of the container."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from worker.decode import opened
from worker.decode.child.readers.orientation import UPRIGHT, swaps_sides
from worker.decode.child.readers.video import decord_reader
from worker.decode.child.readers.video.av_reader import AvReader, threads_for
from worker.decode.child.readers.video.clock import Clock
from worker.decode.child.readers.video.container import (
    BARE,
    container_and_codec,
    container_format,
    duration_seconds,
    encrypted,
    frames_per_second,
)
from worker.decode.child.readers.video.decord_reader import DecordFailed, DecordReader
from worker.decode.child.readers.video.encryption import is_encrypted
from worker.decode.child.readers.video.scan import BROADCASTS, MAX_BROADCAST_PAUSE_SECONDS, Scan, scan
from worker.decode.child.readers.video.sound import SoundReader
from worker.decode.child.readers.video.video_tags import read_video_tags
from worker.decode.wire import MAX_KEY_FRAMES
from worker.errors import MediaRejected
from worker.types import MediaInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.decode.child.readers.sampling import SampledFrame
    from worker.decode.child.readers.video.timeline import Timeline
    from worker.types import DecodeLimits, DecodeRequest, SoundBlock

logger = logging.getLogger(__name__)

# Larger files are cut by their headers: reading all packets takes longer than decoding a few frames twice.
MAX_OUTLINE_BYTES = 2 << 30
# Container and codec that store packets in decoding order without stamps: FFmpeg's guessed stamps are not unique.
WITHOUT_STAMPS = frozenset({("avi", "h264"), ("avi", "hevc")})


class Video:
    """An open video, for any number of ranges.

    On request frames are read by decord where it is known to be exact, else by PyAV, which also resumes where decord
    fails. Both follow the time stamps of the video, which are read once from its packets.
    """

    def __init__(self, location: str, limits: DecodeLimits, alive: Callable[[], None], *, with_decord: bool) -> None:
        """Open a video and decode its first frame, which alone states the orientation.

        Args:
            location: path of the file.
            limits: pixels and frames that the file may have.
            alive: called repeatedly while no frames are yielded.
            with_decord: whether decord may be tried.

        Raises:
            MediaRejected: the file is at fault.
        """
        self._location = location
        self._limits = limits
        self._alive = alive
        self._reader = AvReader(location, limits, alive)
        size = self._reader.look()
        if size is None and is_encrypted(location):
            raise encrypted()
        if size is None:
            raise MediaRejected("corrupt", "no frame of the video can be decoded")
        self._size = size
        self._with_decord = with_decord and self._suits_decord()
        self._decord: DecordReader | None = None
        self._scan: Scan | None = None
        self.info = self._describe()

    @property
    def engine(self) -> str:
        """Name of the first reader: decord or pyav."""
        return "decord" if self._with_decord else "pyav"

    @property
    def notes(self) -> tuple[str, ...]:
        """Parts of the file that are not read: none."""
        return ()

    @property
    def damaged(self) -> int:
        """Packets and frames that could not be decoded completely."""
        return self._reader.damaged

    def close(self) -> None:
        """Release the file and all memory."""
        self._reader.close()
        self._decord = None

    def frames(self, request: DecodeRequest) -> Iterator[SampledFrame]:
        """Yield the sampled frames of a request, preceded by the last one before its range.

        Raises:
            MediaRejected: the file is at fault.
        """
        found = self.scanned()
        timeline = found.timeline
        if timeline is None:
            yield from self._reader.sequence(request.frames_per_second, request.end_seconds, self._clock(found))
            return
        samples = timeline.samples(request.frames_per_second)
        wanted = samples.between(request.start_seconds, request.end_seconds)
        if not len(wanted):
            return
        following = int(wanted[0])
        if self._with_decord and timeline.is_plain:
            try:
                for sampled in self._open_decord(timeline).frames(wanted, samples):
                    yield sampled
                    following = sampled.index + 1
            except DecordFailed as err:
                logger.info(
                    "PyAV resumes a video after decord failed", extra={"action": "decord_failed", "error": str(err)}
                )
                self._with_decord = False
                self._decord = None
            else:
                return
        if following < len(timeline):
            yield from self._reader.range(timeline, following, request.frames_per_second, request.end_seconds)

    def open_sound(self) -> SoundReader:
        """Open the sound of the same file; the caller closes it."""
        return SoundReader(self._location)

    def sound(self, reader: SoundReader) -> Iterator[SoundBlock]:
        """Yield all sound, timed like the frames."""
        is_broadcast = self._reader.container.format.name in BROADCASTS
        longest = MAX_BROADCAST_PAUSE_SECONDS if is_broadcast else float("inf")
        yield from reader.blocks(self.scanned().zero, longest, self._alive)

    def _lacks_stamps(self) -> bool:
        return container_and_codec(self._reader.container, self._reader.stream) in WITHOUT_STAMPS

    def _suits_decord(self) -> bool:
        """Return whether decord is exact for this video and bounded in memory."""
        kind = container_and_codec(self._reader.container, self._reader.stream)
        upright = self._reader.orientation == UPRIGHT and self._reader.has_square_pixels
        usual_colours = not self._reader.is_untagged_hd
        small = self._size[0] * self._size[1] <= decord_reader.MAX_PIXELS
        return upright and usual_colours and small and kind in decord_reader.EXACT

    def _open_decord(self, timeline: Timeline) -> DecordReader:
        if self._decord is None:
            self._decord = DecordReader(opened.path_of(self._location), timeline, threads_for(*self._size), self._alive)
        return self._decord

    def scanned(self) -> Scan:
        """Read all packets, once, and correct the duration of the video by them.

        Raises:
            MediaRejected: ``too_many_frames``.
        """
        if self._scan is None:
            self._reader.rewind()
            if self._lacks_stamps():
                self._scan = Scan(None, Fraction(0), self.info.duration_seconds, 0)
            else:
                self._scan = scan(
                    self._reader.container,
                    self._reader.stream,
                    max_frames=self._limits.frames_per_file,
                    alive=self._alive,
                    location=self._location,
                )
            if self._is_bare():
                self._scan = self._without_stamps(self._scan)
            if self._scan.duration_seconds:
                self.info = replace(self.info, duration_seconds=self._scan.duration_seconds)
        return self._scan

    def outline(self) -> MediaInfo:
        """Return the description with the frame count and key frames, to cut the video into ranges of equal cost.

        Raises:
            MediaRejected: ``too_many_frames``.
        """
        if self._lacks_stamps() or self._is_bare():
            return replace(self.info, is_seekable=False)
        if opened.file_status(self._location).st_size > MAX_OUTLINE_BYTES:
            return replace(self.info, frame_count=self._reader.stream.frames or None)
        found = self.scanned()
        if found.timeline is None:
            return replace(self.info, frame_count=found.frame_count, is_seekable=False)
        return replace(self.info, frame_count=found.frame_count, key_frames=found.timeline.key_frames(MAX_KEY_FRAMES))

    def _is_bare(self) -> bool:
        return self._reader.container.format.name in BARE

    def _without_stamps(self, found: Scan) -> Scan:
        """Return the scan of a bare stream, of which only the number of frames is reliable."""
        rate = frames_per_second(self._reader.stream)
        return Scan(None, Fraction(0), found.frame_count / rate if rate else None, found.frame_count)

    def _clock(self, found: Scan) -> Clock:
        rate = frames_per_second(self._reader.stream)
        is_broadcast = self._reader.container.format.name in BROADCASTS
        longest = MAX_BROADCAST_PAUSE_SECONDS if is_broadcast else float("inf")
        zero = None if self._lacks_stamps() or self._is_bare() else found.zero
        return Clock(rate, zero=zero, longest_step_seconds=longest)

    def _describe(self) -> MediaInfo:
        container, stream = self._reader.container, self._reader.stream
        width, height = self._size
        if swaps_sides(self._reader.orientation):
            width, height = height, width
        return MediaInfo(
            kind="video",
            format=container_format(container, self._location),
            width=width,
            height=height,
            duration_seconds=duration_seconds(container, stream),
            frames_per_second=frames_per_second(stream),
            tags=read_video_tags(container, stream),
            orientation=self._reader.orientation,
        )
