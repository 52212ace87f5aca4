"""What runs through the pipes between the client and its child.

Requests are JSON objects, one a line. Replies are messages: a fixed header, a JSON object, then raw bytes.
The client trusts no length that a child names: a child that reads hostile bytes may say anything.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any, BinaryIO

from worker.values import DecodedFrame, DecodeLimits, DecodeRequest, MediaInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = struct.Struct("<4scIQ")
"""Magic, kind, bytes of JSON, bytes of raw data."""
MAGIC = b"fct1"
MAX_META_BYTES = 1 << 20
"""A longer JSON part is no message of ours."""


class MessageKind(Enum):
    """What a message says."""

    READY = b"r"
    """The child is confined and waits for requests."""
    ALIVE = b"a"
    """Still at work: a long file is being scanned."""
    INFO = b"i"
    FRAME = b"f"
    END = b"e"
    """The request is answered."""
    REJECTED = b"x"
    """The request is answered: the file is at fault."""


def encode_request(operation: str, request: DecodeRequest, engine: str) -> bytes:
    """Return the line that asks for ``operation`` ('probe' or 'frames') with ``engine`` ('auto' or 'pyav')."""
    return json.dumps({"operation": operation, "engine": engine, "request": asdict(request)}).encode() + b"\n"


def decode_request(line: bytes) -> tuple[str, DecodeRequest, str]:
    """Return operation, request and engine of a line that ``encode_request`` made."""
    parts = json.loads(line)
    fields = parts["request"]
    fields["limits"] = DecodeLimits(**fields["limits"])
    return parts["operation"], DecodeRequest(**fields), parts["engine"]


def write_message(out: BinaryIO, kind: MessageKind, meta: Mapping[str, Any], payload: memoryview | None = None) -> None:
    """Write one message in full; blocks while the reader is behind."""
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
        "width": width,
        "height": height,
    }


def info_from_meta(meta: Mapping[str, Any]) -> MediaInfo:
    """Return the MediaInfo of an INFO message.

    Raises:
        ValueError, TypeError: the child sent something else.
    """
    info = MediaInfo(**meta)
    if info.kind not in {"image", "video"} or not (info.width > 0 and info.height > 0):
        raise ValueError(f"a child described a file as {info}")
    return info
