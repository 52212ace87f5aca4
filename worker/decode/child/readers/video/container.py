"""Opens videos with FFmpeg, restricted to local files and to containers that refer to no other file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import av.error
from av.stream import Disposition

from worker.decode import opened
from worker.decode.child.readers.video.encryption import is_encrypted
from worker.errors import MediaRejected

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# FFmpeg's names of codec streams without a container: their stamps are missing, or made up by FFmpeg.
BARE = frozenset({"h264", "hevc", "vvc", "mpegvideo", "m4v", "obu", "vc1", "dnxhd"})
# FFmpeg's names of formats that may be opened: no playlist, no file pattern. Audio files are opened to report them.
CONTAINERS = ",".join(
    ("mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,mxf,mp3,aac,flac,wav",
     "dv,gxf,ivf,nut,rm,wtv,yuv4mpegpipe", *sorted(BARE))
)  # fmt: skip
MAX_FRAMES_PER_SECOND = 1000.0  # a higher rate counts ticks of a clock, not frames
DEFAULT_PIXELS = 5_000_000  # by which a stream must exceed the default one to be chosen in its place
# Streams that replace another one, or depend on it.
SECONDARY = Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent | Disposition.visual_impaired
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
MATROSKA_HEAD_BYTES = 64  # they hold the document type of a Matroska file


def open_video(location: str) -> InputContainer:
    """Open a file as a video.

    Raises:
        MediaRejected: it is not a video that is read here.
    """
    if not opened.file_status(location).st_size:
        raise MediaRejected("empty", "the file has no bytes")
    url, options = opened.for_ffmpeg(location)
    try:
        return av.open(url, options={"format_whitelist": CONTAINERS, **options}, metadata_errors="replace")
    except av.error.MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as err:
        if _lacks_index(location):
            raise MediaRejected("truncated", "the file ends before the index that its container needs") from err
        if is_encrypted(location):
            raise encrypted() from err
        raise MediaRejected("corrupt", f"not a video that can be opened ({err})") from err


def choose_video_stream(container: InputContainer) -> VideoStream:
    """Return the video stream: of several the one that FFmpeg shows, never a cover image.

    A stream of several frames precedes one of a single frame, a plain stream precedes one that belongs to another, then
    the largest number of pixels decides; the default stream may have ``DEFAULT_PIXELS`` less than another. Among equals
    the first is chosen. Source: choice of streams in FFmpeg's fftools/ffmpeg_mux_init.c and ``av_find_best_stream``.

    Raises:
        MediaRejected: there is audio only, or the codec is not read here.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise MediaRejected("no_video_stream", "the file holds no video stream")
    readable = [s for s in streams if s.codec_context is not None]
    if not readable:
        raise MediaRejected("unsupported_format", "the video stream has a codec that is not read here")
    return max(readable, key=_rank)  # the first of equals


def _rank(stream: VideoStream) -> tuple[bool, bool, int]:
    pixels = stream.codec_context.width * stream.codec_context.height
    is_default = bool(stream.disposition & Disposition.default)
    moves = stream.frames != 1  # 0 where the container does not state it
    return moves, not stream.disposition & SECONDARY, pixels + DEFAULT_PIXELS * is_default


def container_and_codec(container: InputContainer, stream: VideoStream) -> tuple[str, str]:
    """Return FFmpeg's first name of the container and its canonical name of the codec."""
    return container.format.name.split(",")[0], stream.codec_context.codec.canonical_name


def container_format(container: InputContainer, location: str) -> str:
    """Return the short name of the container: mp4, mov, matroska, webm, avi, mpeg, mpegts, asf, flv, ogg, mxf."""
    name = container.format.name.split(",")[0]
    if name == "mov":
        return "mov" if container.metadata.get("major_brand", "qt  ").startswith("qt") else "mp4"
    if name == "matroska":
        return "webm" if b"webm" in opened.head(location, MATROSKA_HEAD_BYTES) else "matroska"
    return name


def duration_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the stated duration of a video; None where there is none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if not container.duration:
        return None
    # these two name the end, the others the length
    named_from = container.start_time if container.format.name.split(",")[0] in {"matroska", "flv"} else 0
    return max(container.duration - max(named_from or 0, 0), 0) / av.time_base or None


@dataclass(frozen=True, slots=True)
class StatedEnd:
    """Stated ends, as stamps in seconds; None where the container states none."""

    stream: float | None = None
    """Of the video stream."""
    file: float | None = None
    """Of the whole file."""


def stated_end(container: InputContainer, stream: VideoStream, location: str) -> StatedEnd:
    """Return the ends that a container states apart from its packets; none for a truncated file.

    Only Matroska is read: as a rule its packets have no duration.
    """
    if container.format.name.split(",")[0] != "matroska" or not _is_whole(location):
        return StatedEnd()
    file_end = float(container.duration / av.time_base) if container.duration else None
    parts = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    stream_end = (
        sum(float(part) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else None
    )
    return StatedEnd(stream_end, file_end)


def frames_per_second(stream: VideoStream) -> float | None:
    """Return the average rate; None where the file states none, or an implausible one.

    For a bare stream FFmpeg returns a default as the average, so the rate stated by its codec takes precedence.
    """
    rates = [stream.average_rate, stream.guessed_rate]
    if stream.container.format.name in BARE:
        rates.reverse()
    return next((float(rate) for rate in rates if rate and 0 < rate <= MAX_FRAMES_PER_SECOND), None)


def encrypted() -> MediaRejected:
    """Return the refusal of an encrypted video."""
    return MediaRejected("encrypted", "the video can be read with a key only: remove the protection first")


def too_many_pixels(width: int, height: int, limit: int) -> MediaRejected:
    """Return the refusal of frames of this size."""
    return MediaRejected("too_many_pixels", f"{width} x {height} pixels, at most {limit} are allowed")


def too_many_frames(limit: int) -> MediaRejected:
    """Return the refusal of a video that is too long."""
    return MediaRejected("too_many_frames", f"more than the {limit} frames that one file may have")


def _lacks_index(location: str) -> bool:
    """Return whether an MP4 or QuickTime file ends before its ``moov`` box."""
    end = opened.file_status(location).st_size
    with opened.reader(location) as file:
        position = 0
        seen = False
        while position + 8 <= end:
            file.seek(position)
            head = file.read(16)
            size, kind = int.from_bytes(head[:4]), head[4:8]
            if kind == b"moov":
                return position + size > end
            seen = seen or kind in {b"ftyp", b"mdat"}
            size = int.from_bytes(head[8:16]) if size == 1 else size
            if size < 8:
                return seen and size == 0
            position += size
    return seen


def _is_whole(location: str) -> bool:
    """Return whether a Matroska file has all bytes of its segment; False where that length is unknown."""
    head = opened.head(location, MATROSKA_HEAD_BYTES)
    header, content = _matroska_length(head, 4)
    if header is None:
        return False
    length, content = _matroska_length(head, content + header + 4)
    return length is not None and content + length <= opened.file_status(location).st_size


def _matroska_length(head: bytes, position: int) -> tuple[int | None, int]:
    """Return the length of an element, None where it is unknown, and the offset of its content."""
    size = 9 - head[position].bit_length() if position < len(head) else 9
    if size > 8 or position + size > len(head):
        return None, position
    mask = (1 << 7 * size) - 1
    value = int.from_bytes(head[position : position + size]) & mask
    return (None if value == mask else value), position + size
