"""Finds the pixel aspect of each frame of a video: broadcasts switch between 16:9 and 4:3 at one frame size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av.error
from av.filter import Graph

if TYPE_CHECKING:
    from fractions import Fraction

    from av import VideoFrame
    from av.video.stream import VideoStream

MIN_PIXEL_ASPECT = 0.25  # width over height; discs and tapes use 0.7 to 2, more extreme statements are wrong
SQUARE = "w=iw*sar:h=ih:eval=frame:flags=neighbor"  # options of FFmpeg's scale filter: to the displayed width


class PixelAspect:
    """Return the pixel aspect of the frames of one stream, in decoding order.

    A statement of the container holds for the whole video. Otherwise each frame has its own aspect, but PyAV exposes
    only that of the decoder, which is ahead of the frames that it buffers. Around a change, a filter measures a frame.
    """

    def __init__(self, stream: VideoStream) -> None:
        """Start at the beginning of the stream, before the first frame is decoded."""
        self._stream = stream
        stated, coded = _plausible(stream.sample_aspect_ratio), _plausible(stream.codec_context.sample_aspect_ratio)
        self._fixed = stated if stated != coded else None
        self._settled: float | None = None

    def forget(self) -> None:
        """Forget the last aspect, since the next frame does not follow the last one."""
        self._settled = None

    def of(self, frame: VideoFrame) -> float:
        """Return width over height of a frame's pixels; 1 where a statement is missing or implausible."""
        if self._fixed is not None:
            return self._fixed
        latest = _plausible(self._stream.codec_context.sample_aspect_ratio)
        if latest == self._settled:
            return latest
        own = self._measured(frame, latest)
        if own == latest:
            self._settled = latest
        return own

    def _measured(self, frame: VideoFrame, latest: float) -> float:
        graph = Graph()
        try:
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=self._stream.time_base
            )
            scale, sink = graph.add("scale", SQUARE), graph.add("buffersink")
            source.link_to(scale)
            scale.link_to(sink)
            graph.configure()
            graph.vpush(frame)
            width = graph.vpull().width
        except (av.error.FFmpegError, ValueError):
            return latest
        # widths are rounded to whole pixels: within one pixel, the decoder's statement is more exact
        return latest if abs(width - frame.width * latest) <= 1 else _plausible(width / frame.width)


def _plausible(aspect: Fraction | float | None) -> float:
    return float(aspect) if aspect and MIN_PIXEL_ASPECT < aspect < 1 / MIN_PIXEL_ASPECT else 1.0
