"""Frames from PyAV, which gives each frame's own stamp and so cannot mistake one for another."""

from __future__ import annotations

from dataclasses import replace
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av import VideoFrame
    from numpy.typing import NDArray

    from worker.decode.child.readers.video.clock import Clock
    from worker.decode.child.readers.video.timeline import Timeline
    from worker.types import DecodeLimits

SEEK_TRIES = 3  # key frames, nearest first, that are tried before decoding from the start of the file
# Containers where only some packets have stamps: those after a seek are guessed, so it goes one key frame further.
ROUGH_SEEK = frozenset({"mpeg"})
# Up to 960 x 720 a second thread costs a quarter more CPU time for each frame than it saves in waiting.
ONE_THREAD_PIXELS = 700_000
SPARE_BYTES = 16 << 20
# For each pixel: some frames of the decoder. With less memory left, a failure is taken for want of memory.
SPARE_FRAME_BYTES = 8


# From either of them on a film without a statement has the colours of BT.709; below, those of BT.601.
HD_WIDTH, HD_LINES = 1280, 720
UNSPECIFIED = 2  # FFmpeg's AVCOL_SPC_UNSPECIFIED


def threads_for(width: int, height: int) -> int:
    """Return how many threads decode a picture of this size."""
    return 1 if width * height <= ONE_THREAD_PIXELS else 2


def is_untagged_hd(frame: VideoFrame) -> bool:
    """Return whether a frame does not say which colours it has, and is of a size at which players take BT.709."""
    is_hd = frame.width >= HD_WIDTH or frame.height >= HD_LINES
    return is_hd and frame.colorspace == UNSPECIFIED and not frame.format.is_rgb


class AvReader:
    """An opened film that can be read again and again."""

    def __init__(self, location: str, limits: DecodeLimits, alive: Callable[[], None]) -> None:
        self._location = location
        self._limits = limits
        self._alive = alive
        self.orientation = UPRIGHT
        """Of the latest frame whose pixels were taken; after ``look`` that of the first."""
        self._rotation = 0
        self.has_square_pixels = True
        """Whether those of the first frame are; known after ``look``."""
        self.is_untagged_hd = False
        """Whether the first frame is."""
        # one for all frames: each frame would make its own, whose threads outlive it
        self._converter = VideoReformatter()
        self.damaged = 0
        """Packets and frames that could not be decoded, or only in part, since the last ``rewind``."""
        self.rewind()

    def rewind(self) -> None:
        """Go back to the start of the file: a new container, because not all of them can seek."""
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
        """Decode the first frame that can be decoded and note which way is up; return its width and height.

        They are those of the picture with square pixels, before it is turned. The reader is then somewhere behind it.
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
        """Yield sampled frames from the start of the file, counted as they come.

        Args:
            frames_per_second: sampling.
            end_seconds: first time stamp no longer wanted.
            clock: of the film, at its start.
        """
        sampler = Sampler(frames_per_second)
        waiting: SampledFrame | None = None
        until = 0.0
        for index, frame, at_seconds, until in self._timed(clock):
            if not sampler.takes(at_seconds, until):
                continue
            if waiting is not None:
                yield replace(waiting, hold_seconds=at_seconds - waiting.at_seconds)
            waiting = None
            if end_seconds is not None and at_seconds >= end_seconds:
                return
            waiting = SampledFrame(index, at_seconds, self._pixels(frame), 0.0)
        if waiting is not None:
            yield replace(waiting, hold_seconds=until - waiting.at_seconds)

    def _timed(self, clock: Clock) -> Iterator[tuple[int, VideoFrame, float, float]]:
        """Decode from the start; yield number, frame, its time and when it goes."""
        self.rewind()
        last: tuple[int, VideoFrame, float] | None = None
        for index, frame in enumerate(self._decoded()):
            if index >= self._limits.frames_per_file:
                raise too_many_frames(self._limits.frames_per_file)
            at_seconds = clock.seconds(frame)
            if last is not None:
                yield *last, at_seconds
            last = index, frame, at_seconds
        if last is not None:
            yield *last, last[2] + clock.length(last[1])

    def range(
        self, timeline: Timeline, first: int, frames_per_second: float | None, end_seconds: float | None
    ) -> Iterator[SampledFrame]:
        """Yield sampled frames from frame ``first`` on, after a seek to the key frame before it."""
        samples = timeline.samples(frames_per_second)
        sampler = Sampler(frames_per_second, float(timeline.seconds[0]))
        if first:
            sampler.resume_after(float(timeline.seconds[first - 1]))
        last = first - 1
        for frame in self._from(timeline, int(timeline.stamps[first])):
            if frame.pts is None or frame.pts < timeline.stamps[first]:
                continue
            index = timeline.index_of(frame.pts)
            at_seconds = float(timeline.seconds[index])
            if end_seconds is not None and at_seconds >= end_seconds:
                return
            if index <= last:  # a second frame with one stamp has no place in the film's order
                self.damaged += 1
                continue
            last = index
            if sampler.takes(at_seconds, timeline.until(index)):
                yield SampledFrame(index, at_seconds, self._pixels(frame), samples.hold_seconds(index, at_seconds))

    def _from(self, timeline: Timeline, stamp: int) -> Iterator[VideoFrame]:
        """Decode from the last key frame at or before a stamp, or from one before it, or from the start."""
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
            frames = self._decoded()
            first = next(frames, None)
            if first is not None and first.pts is not None and first.pts <= stamp:
                return chain([first], frames)
        self.rewind()
        return self._decoded()

    def _decode_start(self) -> None:
        """Decode the first frame before any seek.

        What a stream tells its decoder only there (x264 names its version, on which the reading of 4:4:4 pictures
        depends) is otherwise never heard, and later ranges come out as noise.
        """
        if not self._decoded_start:
            self.rewind()  # the packets may have been read through, for the timeline
            next(self._decoded(), None)
            self.damaged, self._decoded_start = 0, True

    def _decoded(self) -> Iterator[VideoFrame]:
        """Decode from here to the end of the file, or to where it breaks off; damage is counted and passed over."""
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
            try:
                frames = packet.decode()
            except av.error.FFmpegError as err:
                self._damage(err)
                continue
            for frame in frames:
                self.damaged += frame.is_corrupt
                yield frame

    def _damage(self, err: av.error.FFmpegError) -> None:
        """Count a failure, unless it is for want of memory: decoders call that damaged data, too.

        Raises:
            MemoryError: there is less left than a few frames need, or a thread could not be started.
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
        """Return width and height of a frame once its pixels are square."""
        return max(round(frame.width * self._aspect.of(frame)), 1), frame.height
