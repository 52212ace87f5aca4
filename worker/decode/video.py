"""Films: sampled frames of a time range, upright and in RGB, with the container's time stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
from av.error import FFmpegError

from worker.decode.sampling import Sampler
from worker.errors import MediaRejected
from worker.values import MediaInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from worker.values import DecodeLimits, DecodeRequest

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg"
"""FFmpeg's names of what may be opened: no playlist, no pattern, nothing that names other files."""
OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}


class Video:
    """An opened film."""

    def __init__(self, location: str, limits: DecodeLimits) -> None:
        self._limits = limits
        try:
            self._container = av.open(f"file:{location}", options=OPEN_OPTIONS, metadata_errors="replace")
        except FFmpegError as err:
            raise MediaRejected("unsupported_format", f"no video container that is read here ({err.strerror})") from err
        pictures = [s for s in self._container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not pictures:
            raise MediaRejected("no_video_stream", "the file holds no moving picture")
        self._stream = pictures[0]
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = 2
        self.info = self._describe()

    def _describe(self) -> MediaInfo:
        context = self._stream.codec_context
        if context.width * context.height > self._limits.pixels_per_frame:
            raise MediaRejected(
                "too_many_pixels",
                f"{context.width} x {context.height} pixels, at most {self._limits.pixels_per_frame} allowed",
            )
        duration = None
        if self._stream.duration is not None and self._stream.time_base is not None:
            duration = float(self._stream.duration * self._stream.time_base)
        elif self._container.duration is not None:
            duration = self._container.duration / av.time_base
        rate = self._stream.average_rate
        return MediaInfo(
            kind="video",
            format=self._container.format.name.split(",")[0].replace("mov", "mp4"),
            width=context.width,
            height=context.height,
            duration_seconds=duration,
            frames_per_second=float(rate) if rate else None,
        )

    def frames(self, request: DecodeRequest) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
        """Yield index, time stamp and pixels of sampled frames before the end of the range, from the film's start."""
        sampler = Sampler(request.frames_per_second)
        first = None
        for index, frame in enumerate(self._decoded()):
            stamp = frame.time if frame.time is not None else 0.0
            first = stamp if first is None else first
            at_seconds = stamp - first
            if request.end_seconds is not None and at_seconds >= request.end_seconds:
                return
            if sampler.takes(at_seconds):
                yield index, at_seconds, frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        try:
            yield from self._container.decode(self._stream)
        except FFmpegError as err:
            raise MediaRejected("corrupt", f"decoding failed ({err.strerror})") from err
