"""Opens films with FFmpeg, held to local files and to containers that name no other file."""

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

# FFmpeg's names of streams of a codec without a container: without stamps, or with such as FFmpeg makes up.
BARE = frozenset({"h264", "hevc", "vvc", "mpegvideo", "m4v", "obu", "vc1", "dnxhd"})
# FFmpeg's names of what may be opened: no playlist, no file pattern. Sound alone is opened to be named as such.
CONTAINERS = ",".join(
    ("mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,mxf,mp3,aac,flac,wav",
     "dv,gxf,ivf,nut,rm,wtv,yuv4mpegpipe", *sorted(BARE))
)  # fmt: skip
MAX_FRAMES_PER_SECOND = 1000.0  # frames per second: what claims more counts ticks of its clock, not frames
DEFAULT_PIXELS = 5_000_000  # by so many pixels another stream has to be larger to be taken instead of the default one
# Streams that stand for another one, or that are of no use without it.
SECONDARY = Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent | Disposition.visual_impaired
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
MATROSKA_HEAD_BYTES = 64  # the document type of Matroska files stands within these


def open_video(location: str) -> InputContainer:
    """Open a file as a film.

    Raises:
        MediaRejected: it is none that is read here.
    """
    if not opened.status(location).st_size:
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
        raise MediaRejected("corrupt", f"not a film that can be opened ({err})") from err


def choose_video_stream(container: InputContainer) -> VideoStream:
    """Return the film's picture: of several streams the one that FFmpeg shows, and never a cover.

    A stream of more than one picture comes before one of a single picture, a plain one before one that belongs to
    another, then the most pixels decide; the default stream may have less than another by ``DEFAULT_PIXELS``. Of equals
    it is the first. Source: choice of streams in FFmpeg's fftools/ffmpeg_mux_init.c and ``av_find_best_stream``.

    Raises:
        MediaRejected: there is sound alone, or the picture needs a codec that is not here.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise MediaRejected("no_video_stream", "the file holds no moving picture")
    readable = [s for s in streams if s.codec_context is not None]
    if not readable:
        raise MediaRejected("unsupported_format", "the picture is in a codec that is not read here")
    return max(readable, key=_rank)  # the first of equals


def _rank(stream: VideoStream) -> tuple[bool, bool, int]:
    pixels = stream.codec_context.width * stream.codec_context.height
    is_default = bool(stream.disposition & Disposition.default)
    moves = stream.frames != 1  # 0 where the container does not say
    return moves, not stream.disposition & SECONDARY, pixels + DEFAULT_PIXELS * is_default


def container_and_codec(container: InputContainer, stream: VideoStream) -> tuple[str, str]:
    """Return FFmpeg's first name of the container and its name of the codec, whichever decoder reads it."""
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
    """Return how long the film says it is, None where it does not."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if not container.duration:
        return None
    # these two name the end, the others the length
    named_from = container.start_time if container.format.name.split(",")[0] in {"matroska", "flv"} else 0
    return max(container.duration - max(named_from or 0, 0), 0) / av.time_base or None


@dataclass(frozen=True, slots=True)
class StatedEnd:
    """Stamps in seconds at which a container says that something ends; None where it does not."""

    picture: float | None = None
    film: float | None = None


def stated_end(container: InputContainer, stream: VideoStream, location: str) -> StatedEnd:
    """Return what a container says of its end apart from its packets; nothing where the file breaks off.

    Only Matroska does: as a rule its packets do not have a length of their own.
    """
    if container.format.name.split(",")[0] != "matroska" or not _is_whole(location):
        return StatedEnd()
    film = float(container.duration / av.time_base) if container.duration else None
    parts = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    picture = (
        sum(float(part) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else None
    )
    return StatedEnd(picture, film)


def frames_per_second(stream: VideoStream) -> float | None:
    """Return the average rate, None where the file does not say or cannot mean it.

    That of a bare stream is a default of FFmpeg's; the rate that its codec states comes before it.
    """
    rates = [stream.average_rate, stream.guessed_rate]
    if stream.container.format.name in BARE:
        rates.reverse()
    return next((float(rate) for rate in rates if rate and 0 < rate <= MAX_FRAMES_PER_SECOND), None)


def encrypted() -> MediaRejected:
    """Return the refusal of a film whose pictures need a key."""
    return MediaRejected("encrypted", "the pictures can be read with a key only: remove the protection first")


def too_many_pixels(width: int, height: int, most: int) -> MediaRejected:
    """Return the refusal of a picture of this size."""
    return MediaRejected("too_many_pixels", f"{width} x {height} pixels, at most {most} are allowed")


def too_many_frames(most: int) -> MediaRejected:
    """Return the refusal of a film that is too long."""
    return MediaRejected("too_many_frames", f"more than the {most} frames that one file may have")


def _lacks_index(location: str) -> bool:
    """Tell whether an MP4 or QuickTime file ends before its ``moov`` box."""
    end = opened.status(location).st_size
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
    """Return whether a Matroska file has all bytes of its segment; one of unknown length may go on."""
    head = opened.head(location, MATROSKA_HEAD_BYTES)
    header, content = _matroska_length(head, 4)
    if header is None:
        return False
    length, content = _matroska_length(head, content + header + 4)
    return length is not None and content + length <= opened.status(location).st_size


def _matroska_length(head: bytes, position: int) -> tuple[int | None, int]:
    """Read the length of an element, None where it is unknown, and where its content begins."""
    size = 9 - head[position].bit_length() if position < len(head) else 9
    if size > 8 or position + size > len(head):
        return None, position
    mask = (1 << 7 * size) - 1
    value = int.from_bytes(head[position : position + size]) & mask
    return (None if value == mask else value), position + size
