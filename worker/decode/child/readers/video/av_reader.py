"""Reads frames with PyAV, which returns each frame with its own time stamp, so that none is mistaken for another."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import av.error
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from worker.decode.child.confine import memory_left
from worker.decode.child.readers.orientation import UPRIGHT, of_frame, upright
from worker.decode.child.readers.sampling import SampledFrame, Sampler
from worker.decode.child.readers.video.aspect import PixelAspect
from worker.decode.child.readers.video.container import (
    choose_video_stream,
    encrypted,
    open_video,
    too_many_frames,
    too_many_pixels,
)
from worker.decode.child.readers.video.skipping import FrameSkipper, SkippingFailed, may_skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av import VideoFrame
    from numpy.typing import NDArray

    from worker.decode.child.readers.video.clock import Clock
    from worker.decode.child.readers.video.timeline import SampledFrames, Timeline
    from worker.types import DecodeLimits

SEEK_TRIES = 3  # seeks to key frames, nearest first, before decoding from the start of the file
# Containers where only some packets have stamps: stamps after a seek are guessed, so it starts one key frame earlier.
ROUGH_SEEK = frozenset({"mpeg"})
# Up to 960 x 720 a second thread costs a quarter more CPU time for each frame than it saves in waiting.
ONE_THREAD_PIXELS = 700_000
# With less memory left than this, and a few frames of the decoder (bytes for each pixel), a failure counts as lack of
# memory.
SPARE_BYTES, SPARE_FRAME_BYTES = 16 << 20, 8


# A video that states no colour space has that of BT.709 from either size on, that of BT.601 below.
HD_WIDTH, HD_LINES = 1280, 720
UNSPECIFIED = 2  # FFmpeg's AVCOL_SPC_UNSPECIFIED


def threads_for(width: int, height: int) -> int:
    """Return the number of threads that decode frames of this size."""
    return 1 if width * height <= ONE_THREAD_PIXELS else 2


def is_untagged_hd(frame: VideoFrame) -> bool:
    """Return whether a frame states no colour space and has a size for which players assume BT.709."""
    is_hd = frame.width >= HD_WIDTH or frame.height >= HD_LINES
    return is_hd and frame.colorspace == UNSPECIFIED and not frame.format.is_rgb


@dataclass(frozen=True, slots=True)
class _TimedFrame:
    """A decoded frame and its time on screen."""

    index: int
    frame: VideoFrame
    at_seconds: float
    until_seconds: float


@dataclass(frozen=True, slots=True)
class _HeldFrame:
    """A frame that waits for those that were decoded before it and are shown later: it is damaged if they are."""

    timed: _TimedFrame
    newest: int
    """Highest stamp that the decoder had been given when the frame came."""


class AvReader:
    """An open video that can be read repeatedly."""

    def __init__(self, location: str, limits: DecodeLimits, alive: Callable[[], None]) -> None:
        self._location = location
        self._limits = limits
        self._alive = alive
        self.orientation = UPRIGHT
        """Of the latest frame that was converted; after ``look`` that of the first frame."""
        self._rotation = 0
        self.has_square_pixels = True
        """Whether the pixels of the first frame are square; known after ``look``."""
        self.is_untagged_hd = False
        """Whether the first frame is; known after ``look``."""
        # one for all frames: each frame would create its own, whose threads outlive it
        self._converter = VideoReformatter()
        self.damaged = 0
        """Packets and frames since the last ``rewind`` that could not be decoded completely."""
        self._skips = True
        """Whether frames that nothing needs are left out; not after that failed once."""
        self.rewind()

    def rewind(self) -> None:
        """Return to the start of the file by opening it again: not all containers can seek."""
        self.close()
        self.container = open_video(self._location)
        self.stream = choose_video_stream(self.container)
        context = self.stream.codec_context
        if context.width * context.height > self._limits.pixels_per_frame:
            raise too_many_pixels(context.width, context.height, self._limits.pixels_per_frame)
        context.options = {"max_pixels": str(self._limits.pixels_per_frame)}
        context.thread_type = "AUTO"
        context.thread_count = threads_for(context.width, context.height)
        self.damaged = 0
        self._decoded_start = False
        self._aspect = PixelAspect(self.stream)

    def close(self) -> None:
        """Release the file."""
        if hasattr(self, "container"):
            self.container.close()

    def look(self) -> tuple[int, int] | None:
        """Decode the first decodable frame, note its orientation, and return its width and height.

        The size is that with square pixels, before rotation. The reader is behind that frame afterwards.
        """
        first = next(self._decoded(), None)
        if first is None:
            return None
        self._rotation, self.orientation = first.rotation, of_frame(first)
        self.has_square_pixels, self.is_untagged_hd = self._aspect.of(first) == 1, is_untagged_hd(first)
        return self._square_size(first)

    def sequence(
        self, frames_per_second: float | None, end_seconds: float | None, clock: Clock
    ) -> Iterator[SampledFrame]:
        """Yield sampled frames from the start of the file, numbered as they are decoded.

        Args:
            frames_per_second: sampling.
            end_seconds: first time stamp no longer wanted.
            clock: of the video, at its start.
        """
        sampler = Sampler(frames_per_second)
        waiting: SampledFrame | None = None
        until = 0.0
        for timed in self._timed(clock):
            at_seconds, until = timed.at_seconds, timed.until_seconds
            if not sampler.takes(at_seconds, until):
                continue
            if waiting is not None:
                yield replace(waiting, hold_seconds=at_seconds - waiting.at_seconds)
            waiting = None
            if end_seconds is not None and at_seconds >= end_seconds:
                return
            waiting = SampledFrame(timed.index, at_seconds, self._pixels(timed.frame), 0.0)
        if waiting is not None:
            yield replace(waiting, hold_seconds=until - waiting.at_seconds)

    def _timed(self, clock: Clock) -> Iterator[_TimedFrame]:
        """Decode from the start of the file."""
        self.rewind()
        last: tuple[int, VideoFrame, float] | None = None
        for index, frame in enumerate(self._decoded()):
            if index >= self._limits.frames_per_file:
                raise too_many_frames(self._limits.frames_per_file)
            at_seconds = clock.seconds(frame)
            if last is not None:
                yield _TimedFrame(*last, at_seconds)
            last = index, frame, at_seconds
        if last is not None:
            yield _TimedFrame(*last, last[2] + clock.length(last[1]))

    def range(
        self, timeline: Timeline, first: int, frames_per_second: float | None, end_seconds: float | None
    ) -> Iterator[SampledFrame]:
        """Yield sampled frames from number ``first`` on, after a seek to the key frame before it."""
        samples = timeline.samples(frames_per_second)
        last = first - 1
        if self._skips and len(samples.indices) < len(timeline) and may_skip(self.stream, timeline):
            try:
                for timed in self._needed(timeline, first, samples.starting_in(first, end_seconds), end_seconds):
                    last = timed.index
                    yield self._sampled(timed, samples)
            except SkippingFailed:
                self._skips = False
            else:
                return
        sampler = Sampler(frames_per_second, float(timeline.seconds[0]))
        if first:
            sampler.resume_after(float(timeline.seconds[first - 1]))
        for timed in self._in_order(timeline, first, end_seconds):
            if sampler.takes(timed.at_seconds, timed.until_seconds) and timed.index > last:
                yield self._sampled(timed, samples)

    def _needed(
        self, timeline: Timeline, first: int, wanted: NDArray[np.int64], end_seconds: float | None
    ) -> Iterator[_TimedFrame]:
        """Yield the wanted frames from number ``first`` on; decode no others but those that frames refer to.

        Raises:
            SkippingFailed: a frame is missing, or the stream is damaged or interlaced.
        """
        self._decode_start()
        damaged_before, self.damaged = self.damaged, 0
        awaited = iter([*wanted.tolist(), len(timeline)])  # the last one never comes
        following = next(awaited)
        skipper, held = FrameSkipper(timeline.stamps[wanted]), deque[_HeldFrame]()
        try:
            for timed in self._in_order(timeline, first, None, skipper):
                if self.damaged or timed.frame.interlaced_frame or timed.index > following:
                    raise SkippingFailed
                if timed.index == following:
                    held.append(_HeldFrame(timed, skipper.newest))
                    following = next(awaited)
                while held and (timed.frame.pts or 0) >= held[0].newest:
                    yield held.popleft().timed
                if not held and end_seconds is not None and timed.at_seconds >= end_seconds:
                    break
            if self.damaged or following < len(timeline):
                raise SkippingFailed
            yield from (frame.timed for frame in held)
        finally:
            self.stream.codec_context.skip_frame = "DEFAULT"
            self.damaged = damaged_before

    def _in_order(
        self, timeline: Timeline, first: int, end_seconds: float | None, skipper: FrameSkipper | None = None
    ) -> Iterator[_TimedFrame]:
        """Yield decoded frames from number ``first`` on, up to a time."""
        last = first - 1
        for frame in self._from(timeline, int(timeline.stamps[first]), skipper):
            if frame.pts is None or frame.pts < timeline.stamps[first]:
                continue
            index = timeline.index_of(frame.pts)
            at_seconds = float(timeline.seconds[index])
            if end_seconds is not None and at_seconds >= end_seconds:
                return
            if index <= last:  # two frames with one stamp have no order
                self.damaged += 1
                continue
            last = index
            yield _TimedFrame(index, frame, at_seconds, timeline.until(index))

    def _sampled(self, timed: _TimedFrame, samples: SampledFrames) -> SampledFrame:
        hold_seconds = samples.hold_seconds(timed.index, timed.at_seconds)
        return SampledFrame(timed.index, timed.at_seconds, self._pixels(timed.frame), hold_seconds)

    def _from(self, timeline: Timeline, stamp: int, skipper: FrameSkipper | None) -> Iterator[VideoFrame]:
        """Decode from the last key frame at or before a stamp; if seeking fails, from an earlier one or the start."""
        self._decode_start()
        nearest = int(np.searchsorted(timeline.key_stamps, stamp, side="right")) - 1
        if self.container.format.name in ROUGH_SEEK:
            nearest -= 1
        for key in range(nearest, max(nearest - SEEK_TRIES, 0), -1):
            try:
                self.container.seek(int(timeline.key_seek_stamps[key]), stream=self.stream, backward=True)
            except av.error.FFmpegError:
                break
            self._aspect.forget()
            frames = self._decoded(skipper)
            first = next(frames, None)
            if first is not None and first.pts is not None and first.pts <= stamp:
                return chain([first], frames)
        self.rewind()
        return self._decoded(skipper)

    def _decode_start(self) -> None:
        """Decode the first frame before any seek.

        Streams describe themselves to the decoder only there: x264 states its version, on which the decoding of 4:4:4
        frames depends. Without it, later ranges decode to noise.
        """
        if not self._decoded_start:
            self.rewind()  # the packets may have been read before, for the timeline
            next(self._decoded(), None)
            self.damaged, self._decoded_start = 0, True

    def _decoded(self, skipper: FrameSkipper | None = None) -> Iterator[VideoFrame]:
        """Decode from here to the end of the file, or to its truncation; damaged packets are counted and skipped."""
        packets = self.container.demux(self.stream)
        while True:
            self._alive()
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as err:
                self._damage(err)
                return
            if packet is None:
                return
            if packet.has_sidedata("encryption_info"):
                raise encrypted()
            if skipper is not None:
                skipper.prepare(packet)
            try:
                frames = packet.decode()
            except av.error.FFmpegError as err:
                self._damage(err)
                continue
            for frame in frames:
                self.damaged += frame.is_corrupt
                yield frame

    def _damage(self, err: av.error.FFmpegError) -> None:
        """Count a failure as damage, unless memory is lacking, which decoders report as damaged data, too.

        Raises:
            MemoryError: less memory is left than a few frames need, or a thread could not be started.
        """
        context = self.stream.codec_context
        need = SPARE_BYTES + SPARE_FRAME_BYTES * context.width * context.height
        if isinstance(err, MemoryError | BlockingIOError) or memory_left() < need:
            raise MemoryError(str(err)) from err
        self.damaged += 1

    def _pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return a frame in RGB, upright, with square pixels, as (H, W, 3)."""
        if frame.width * frame.height > self._limits.pixels_per_frame:
            raise too_many_pixels(frame.width, frame.height, self._limits.pixels_per_frame)
        width, height = self._square_size(frame)
        source = Colorspace.ITU709 if is_untagged_hd(frame) else None
        rgb = self._converter.reformat(
            frame, format="rgb24", width=width, height=height, src_colorspace=source, threads=1
        )
        if frame.rotation != self._rotation:
            self._rotation, self.orientation = frame.rotation, of_frame(frame)
        return upright(rgb.to_ndarray().astype(np.uint8, copy=False), self.orientation)

    def _square_size(self, frame: VideoFrame) -> tuple[int, int]:
        """Return width and height of a frame with square pixels."""
        return max(round(frame.width * self._aspect.of(frame)), 1), frame.height
