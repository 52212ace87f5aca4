"""XMP packets in image files: found in all formats, written into JPEG and PNG without a change of any other byte.

Images are not decoded: the parts of a file are walked by their lengths, and the packet alone is parsed.

Sources: XMP Specification, part 3 (Adobe, 2020), for JPEG, PNG and the scanning of packets.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.errors import FacetError
from worker.pictures.regions.xml_tree import MAX_XML_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_APP0, _APP1, _APP2, _START_OF_SCAN = 0xE0, 0xE1, 0xE2, 0xDA
_LONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_XMP_HEAD, _EXIF_HEAD, _SEVERAL_IMAGES = b"http://ns.adobe.com/xap/1.0/\0", b"Exif\0", b"MPF\0"
MAX_SEGMENT_BYTES = 65_533 - len(_XMP_HEAD)
_PNG_KEYWORD = b"XML:com.adobe.xmp\0"
_PACKET_START, _PACKET_END, _TRAILER = b"<x:xmpmeta", b"</x:xmpmeta>", b"<?xpacket end="


MAX_HEAD_BYTES = 1 << 20  # of a JPEG or PNG, in which its packet is searched for
MAX_SCAN_BYTES = 64 << 20  # of another image
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class NotEmbeddedError(FacetError):
    """Regions cannot be written into this file."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment of a JPEG, or a chunk of a PNG."""

    kind: int | bytes
    start: int
    body: int
    end: int


def read_embedded(path: Path) -> bytes | None:
    """Return the XMP packet of a file; None where it is no image of a known kind, or has none.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head.startswith((JPEG, PNG)):
            return read_packet(head + file.read(MAX_HEAD_BYTES))
        if head.startswith(_TIFF) or head[8:12] == b"WEBP" or head[4:8] == b"ftyp":
            return read_packet(head + file.read(MAX_SCAN_BYTES))
    return None


def read_packet(data: bytes) -> bytes | None:
    """Return the XMP packet of an image file; None where it has none."""
    if data.startswith(JPEG):
        part = _jpeg_packet(data)
        return None if part is None else data[part.body + len(_XMP_HEAD) : part.end]
    if data.startswith(PNG):
        part = _png_packet(data)
        return None if part is None else _png_text(data[part.body : part.end - 4])
    start = data.find(_PACKET_START)
    end = data.find(_PACKET_END, start) if start >= 0 else -1
    return data[start : end + len(_PACKET_END)] if end >= 0 else None


def write_packet(data: bytes, packet: bytes) -> bytes:
    """Return an image file with another packet.

    Raises:
        NotEmbeddedError: it is neither JPEG nor PNG, or has no room for the packet.
    """
    if data.startswith(JPEG):
        return _into_jpeg(data, packet)
    if data.startswith(PNG):
        return _into_png(data, packet)
    raise NotEmbeddedError("regions are embedded in JPEG and PNG alone; write a sidecar")


def _segments(data: bytes) -> Iterator[_Part]:
    """Yield the segments of a JPEG before its image."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _LONE:
            place += 1 if marker == 0xFF else 2
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _START_OF_SCAN or end > len(data) or end < place + 4:
            return
        yield _Part(marker, place, place + 4, end)
        place = end


def _jpeg_packet(data: bytes) -> _Part | None:
    return next((one for one in _segments(data) if one.kind == _APP1 and data.startswith(_XMP_HEAD, one.body)), None)


def _into_jpeg(data: bytes, packet: bytes) -> bytes:
    packet = _without_padding(packet)
    if len(packet) > MAX_SEGMENT_BYTES:
        raise NotEmbeddedError(
            f"its metadata would have {len(packet):,} bytes, and a JPEG holds {MAX_SEGMENT_BYTES:,}; write a sidecar"
        )
    segments = list(_segments(data))
    old = _jpeg_packet(data)
    start = end = 2
    if old is not None:
        start, end = old.start, old.end
    else:
        for one in segments:
            if one.kind != _APP0 and not (one.kind == _APP1 and data.startswith(_EXIF_HEAD, one.body)):
                break
            start = end = one.end
    several = (one for one in segments if one.kind == _APP2 and data.startswith(_SEVERAL_IMAGES, one.body))
    if any(one.start < start for one in several):  # it counts bytes from its own place to the other images
        raise NotEmbeddedError("it has further images that would be lost; write a sidecar")
    body = _XMP_HEAD + packet
    return data[:start] + struct.pack(">BBH", 0xFF, _APP1, len(body) + 2) + body + data[end:]


def _without_padding(packet: bytes) -> bytes:
    """Return a packet without the blanks that programs leave for others to write into."""
    end = packet.rfind(_TRAILER)
    return packet if end < 0 else packet[:end].rstrip() + b"\n" + packet[end:]


def _chunks(data: bytes) -> Iterator[_Part]:
    place = len(PNG)
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):
            return
        yield _Part(data[place + 4 : place + 8], place, place + 8, end)
        place = end


def _png_packet(data: bytes) -> _Part | None:
    return next((one for one in _chunks(data) if one.kind == b"iTXt" and data.startswith(_PNG_KEYWORD, one.body)), None)


def _png_text(body: bytes) -> bytes | None:
    """Return the text of an iTXt chunk, behind keyword, compression, method, language and translated keyword."""
    rest = body[len(_PNG_KEYWORD) :]
    is_packed, (*_, text) = rest[:1] == b"\x01", rest[2:].split(b"\0", 2)
    if not is_packed:
        return text
    try:
        return zlib.decompressobj().decompress(text, MAX_XML_BYTES + 1)
    except zlib.error:
        return None


def _into_png(data: bytes, packet: bytes) -> bytes:
    body = b"iTXt" + _PNG_KEYWORD + b"\0\0\0\0" + packet
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    old = _png_packet(data)
    if old is not None:
        return data[: old.start] + chunk + data[old.end :]
    header = next(_chunks(data), None)
    if header is None or header.kind != b"IHDR":
        raise NotEmbeddedError("its PNG header cannot be read; write a sidecar")
    return data[: header.end] + chunk + data[header.end :]
