"""Recognises the format of a file by its first bytes.

The table is our own: libraries rely on the name as well (puremagic 1.30 takes HEIC content for video/mp4 without its
name and does not know ``mif1``), and only formats that are read here matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from worker.errors import RAW_ADVICE
from worker.ingest.image_signatures import IMAGE_SIGNATURES, RAW_IMAGES, UNREAD_BRANDS, UNREAD_IMAGES
from worker.ingest.video_signatures import UNREAD_VIDEOS, VIDEOS, is_transport_stream

if TYPE_CHECKING:
    from worker.types import MediaKind

HEAD_BYTES = 16 << 10  # far more than the signatures need: a transport stream may have something else before it

ArchiveFormat = Literal["zip", "tar", "gzip", "bzip2", "xz", "zstd"]


@dataclass(frozen=True, slots=True)
class Media:
    """An image or video that may be decoded."""

    kind: MediaKind
    format: str
    extension: str
    """File name extension of a copy in the staging folder; for people only."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive. A compressed file counts as one: it may hold a tar."""

    format: ArchiveFormat


@dataclass(frozen=True, slots=True)
class Other:
    """A file that is neither, with the reason of its refusal."""

    code: str
    message: str


NOT_MEDIA = Other("not_media", "neither an image nor a video nor an archive by its first bytes")
EMPTY = Other("empty", "the file has no bytes")

_EXTENSIONS = {
    "jpeg": "jpg",
    "tiff": "tif",
    "jpeg2000": "jp2",
    "matroska": "mkv",
    "mpeg": "mpg",
    "mpegts": "ts",
    "asf": "wmv",
    "ogg": "ogv",
    "yuv4mpegpipe": "y4m",
    "mpegvideo": "m2v",
}


def image(name: str) -> Media:
    """Return an image of this format."""
    return Media("image", name, _EXTENSIONS.get(name, name))


def video(name: str) -> Media:
    """Return a video of this format."""
    return Media("video", name, _EXTENSIONS.get(name, name))


def _unread(message: str) -> Other:
    return Other("unsupported_format", message)


_PACKER = Other("unsupported_archive", "unpack it first, or pack it as zip")

_SIGNATURES: tuple[tuple[bytes, Media | Archive | Other], ...] = (
    *((pattern, _unread(RAW_ADVICE)) for pattern in RAW_IMAGES),
    *((pattern, image(name)) for pattern, name in IMAGE_SIGNATURES),
    # documents and programs are zip files too; the images in them were not submitted as media
    (rb"PK\x03\x04.{26}(?:\[Content_Types\]|_rels/|mimetype|META-INF/|AndroidManifest)", NOT_MEDIA),
    (rb"PK(?:\x03\x04|\x05\x06)", Archive("zip")),
    (rb".{257}ustar", Archive("tar")),
    (rb"\x1f\x8b\x08", Archive("gzip")),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", Archive("bzip2")),
    (rb"\xfd7zXZ\0", Archive("xz")),
    (rb"\x28\xb5\x2f\xfd", Archive("zstd")),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07", _PACKER),
    *((pattern, video(name)) for pattern, name in VIDEOS),
    *((pattern, _unread(message)) for pattern, message in UNREAD_VIDEOS),
    *((pattern, _unread(message)) for pattern, message in UNREAD_IMAGES),
)
_TABLE = tuple((re.compile(pattern, re.DOTALL), sniffed) for pattern, sniffed in _SIGNATURES)

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"})


def sniff(head: bytes) -> Media | Archive | Other:
    """Return the format that begins with these bytes.

    Args:
        head: the first ``HEAD_BYTES`` of a file, or all of a shorter one.
    """
    if not head:
        return EMPTY
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    known = next((sniffed for pattern, sniffed in _TABLE if pattern.match(head)), None)
    if known is not None:
        return known
    if _is_old_tar(head):
        return Archive("tar")
    return video("mpegts") if is_transport_stream(head) else NOT_MEDIA


def _by_brand(head: bytes) -> Media | Other:
    """Return the format of a file of the ISO base media family."""
    major = head[8:12]
    size = min(int.from_bytes(head[:4]), 512)
    compatible = {head[position : position + 4] for position in range(16, size, 4)}
    if major in _AVIF_BRANDS or (major in {b"mif1", b"msf1"} and compatible & _AVIF_BRANDS):
        return image("avif")
    if major in _HEIF_BRANDS:
        return image("heic")
    if major in UNREAD_BRANDS:
        return _unread(UNREAD_BRANDS[major])
    return video("mov" if major == b"qt  " else "mp4")


def _is_old_tar(head: bytes) -> bool:
    """Return whether the checksum of a tar header is right: old tar files have no signature."""
    block = head[:512]
    if len(block) < 512 or not block[0]:
        return False
    try:
        expected = int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return sum(block) - sum(block[148:156]) + 8 * ord(" ") == expected
