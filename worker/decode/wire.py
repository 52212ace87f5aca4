"""The protocol between the client and its child.

Requests are JSON objects, one a line. Replies are messages: a fixed header, a JSON object, then raw bytes. The client
trusts no length that a child states: a child that reads hostile bytes may send anything.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from worker.types import (
    MAX_SOUND_TRACKS,
    SOUND_LAYOUTS,
    SOUND_RATES,
    DecodedFrame,
    DecodeLimits,
    DecodeRequest,
    KeyFrame,
    MediaInfo,
    MediaTags,
    SoundTrack,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEADER = struct.Struct("<4scIQ")  # magic, kind, bytes of JSON, bytes of raw data
MAGIC = b"fct1"
MAX_META_BYTES = 1 << 20  # of the JSON part of a message


MAX_TEXT_CHARACTERS = 500  # of a reason
MAX_REQUEST_NOTES = 20  # of one request
MAX_KEYWORDS = 50  # of one file
TEXT_TAGS = ("utc_offset", "camera", "title", "description", "creator", "copyright")
# Pixels of a side and frames of a file: larger numbers are refused, and do not fit the columns of the database.
MAX_SIDE_PIXELS, MAX_FRAMES = 1 << 20, 1 << 31


MAX_KEY_FRAMES = 2000  # of one file: places where a video may be cut


class MessageKind(Enum):
    """Kinds of messages."""

    READY = b"r"
    """The child is confined and waits for requests."""
    ALIVE = b"a"
    """A sign of life: a long file is being scanned."""
    INFO = b"i"
    FRAME = b"f"
    SOUND = b"s"
    END = b"e"
    """The request is answered."""
    REJECTED = b"x"
    """The request is answered: the file is at fault."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the client to its child."""

    operation: Literal["probe", "frames", "sound"]
    decode: DecodeRequest
    engine: Literal["auto", "pyav"] = "auto"
    """For videos: 'auto' tries decord first where it is exact."""


CANCEL = b"cancel\n"  # stops the frames of the request before it, which still ends with END


def encode_request(request: Request) -> bytes:
    """Return the line that carries a request."""
    return json.dumps(asdict(request)).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Return the request in a line of ``encode_request``."""
    fields = json.loads(line)
    decode = fields["decode"]
    decode["limits"] = DecodeLimits(**decode["limits"])
    return Request(**fields | {"decode": DecodeRequest(**decode)})


def write_message(out: BinaryIO, kind: MessageKind, meta: Mapping[str, Any], payload: memoryview | None = None) -> None:
    """Write one message completely; blocks until the reader follows."""
    text = json.dumps(meta).encode()
    size = 0 if payload is None else payload.nbytes
    out.write(HEADER.pack(MAGIC, kind.value, len(text), size) + text)
    if payload is not None:
        out.write(payload)
    out.flush()


def frame_meta(frame: DecodedFrame) -> dict[str, Any]:
    """Return the JSON part of a frame's message; its pixels are the payload."""
    height, width, _ = frame.pixels.shape
    return {
        "index": frame.index,
        "at_seconds": frame.at_seconds,
        "scene_cut": frame.scene_cut,
        "hold_seconds": frame.hold_seconds,
        "width": width,
        "height": height,
    }


def info_from_meta(meta: Mapping[str, Any]) -> tuple[MediaInfo, str]:
    """Return the description in an INFO message, and the engine that reads the file.

    Raises:
        KeyError, TypeError, ValueError: the child sent something else.
    """
    described = MediaInfo(**meta["info"])
    info = MediaInfo(
        kind=described.kind,
        format=plain_text(described.format),
        width=int(described.width),
        height=int(described.height),
        duration_seconds=_finite(described.duration_seconds),
        frames_per_second=_finite(described.frames_per_second),
        frame_count=None if described.frame_count is None else min(max(int(described.frame_count), 0), MAX_FRAMES),
        key_frames=_key_frames(meta["info"].get("key_frames", ())),
        is_seekable=bool(described.is_seekable),
        tags=_tags(meta["info"].get("tags") or {}),
        orientation=int(described.orientation),
    )
    sides_fit = 0 < info.width < MAX_SIDE_PIXELS and 0 < info.height < MAX_SIDE_PIXELS
    if info.kind not in {"image", "video"} or not sides_fit or info.orientation not in range(1, 9):
        raise ValueError(f"a child described a file as {info}")
    return info, plain_text(meta["engine"])


def tracks_from_meta(meta: Mapping[str, Any]) -> tuple[SoundTrack, ...]:
    """Return the sound tracks in an INFO message; none where it is not about sound.

    Raises:
        KeyError, TypeError, ValueError: the child sent something else.
    """
    tracks = tuple(
        SoundTrack(int(one["rate"]), str(one["layout"]), _language(one["language"]))
        for one in meta.get("tracks", ())[:MAX_SOUND_TRACKS]
    )
    if not all(track.rate in SOUND_RATES and track.layout in SOUND_LAYOUTS for track in tracks):
        raise ValueError(f"a child described sound as {tracks}")
    return tracks


def _language(stated: object) -> str:
    code = str(stated)
    return code if len(code) == 3 and code.isascii() and code.isalpha() else "und"


def notes_from_meta(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the notes of an END message; none where the child sent something else."""
    notes = meta.get("notes")
    return tuple(plain_text(note) for note in notes[:MAX_REQUEST_NOTES]) if isinstance(notes, list) else ()


def _key_frames(listed: Sequence[Mapping[str, Any]]) -> tuple[KeyFrame, ...]:
    """Return key frames, checked to ascend in time and number.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: the child sent something else.
    """
    frames = [KeyFrame(float(one["at_seconds"]), int(one["number"])) for one in listed[:MAX_KEY_FRAMES]]
    ascending = all(one.at_seconds < other.at_seconds and one.number < other.number for one, other in pairwise(frames))
    if not ascending or not all(math.isfinite(one.at_seconds) and 0 <= one.number < MAX_FRAMES for one in frames):
        raise ValueError("key frames that do not ascend")
    return tuple(frames)


def _tags(found: Mapping[str, Any]) -> MediaTags:
    """Return metadata that the database can hold.

    Raises:
        KeyError, TypeError, ValueError: the child sent something else.
    """
    texts = {name: plain_text(found.get(name) or "").strip() or None for name in TEXT_TAGS}
    taken_at = found.get("taken_at")
    latitude, longitude = _finite(found.get("latitude")), _finite(found.get("longitude"))
    is_place = latitude is not None and longitude is not None and abs(latitude) <= 90 and abs(longitude) <= 180
    return MediaTags(
        taken_at=None if taken_at is None else datetime.fromisoformat(taken_at).replace(tzinfo=None).isoformat(),
        latitude=latitude if is_place else None,
        longitude=longitude if is_place else None,
        keywords=tuple(plain_text(word) for word in list(found.get("keywords") or ())[:MAX_KEYWORDS]),
        **texts,
    )


def _finite(value: float | None) -> float | None:
    """Return a finite number, which the database can hold; None for infinity and NaN.

    Raises:
        TypeError, ValueError: it is not a number.
    """
    return None if value is None or not math.isfinite(float(value)) else float(value)


def plain_text(value: object) -> str:
    """Return text of a child as one line that a database can hold."""
    return "".join(c if c.isprintable() else " " for c in str(value)[:MAX_TEXT_CHARACTERS])
