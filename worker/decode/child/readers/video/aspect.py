"""The shape of the pixels of each frame of a film: broadcasts switch between 16:9 and 4:3 without a new size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av.error
from av.filter import Graph

if TYPE_CHECKING:
    from fractions import Fraction

    from av import VideoFrame
    from av.video.stream import VideoStream

MIN_PIXEL_ASPECT = 0.25  # width over height. Discs and tapes use 0.7 to 2; what claims more is mistaken.
SQUARE = "w=iw*sar:h=ih:eval=frame:flags=neighbor"  # of FFmpeg's scale filter: the picture's width as it is displayed


class PixelAspect:
    """Answers for the frames of one stream, in the order in which they are decoded.

    A container's statement holds for the whole film. Else each frame has its own. PyAV shows only the decoder's, which
    is ahead of the frames that it still holds back, so around a change a frame is sent through a filter that knows.
    """

    def __init__(self, stream: VideoStream) -> None:
        """Begin at the start of the stream, before the first frame is decoded."""
        self._stream = stream
        said, coded = _plausible(stream.sample_aspect_ratio), _plausible(stream.codec_context.sample_aspect_ratio)
        self._fixed = said if said != coded else None
        self._settled: float | None = None

    def forget(self) -> None:
        """Note that the next frame does not follow the last one."""
        self._settled = None

    def of(self, frame: VideoFrame) -> float:
        """Return width over height of a frame's pixels: 1 unless it says something that a camera or a disc may mean."""
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
        # whole pixels tell little of a narrow picture: what is near enough is the decoder's own statement
        return latest if abs(width - frame.width * latest) <= 1 else _plausible(width / frame.width)


def _plausible(aspect: Fraction | float | None) -> float:
    return float(aspect) if aspect and MIN_PIXEL_ASPECT < aspect < 1 / MIN_PIXEL_ASPECT else 1.0
