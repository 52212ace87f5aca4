"""Detects image files that are shorter than they state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.decode import opened

if TYPE_CHECKING:
    from typing import BinaryIO

BOX_HEADER_BYTES = 16
MAX_BOXES = 1000
BOXES = frozenset({b"ftyp", b"jP  "})  # types of the first box of HEIC, AVIF and JPEG 2000
CODESTREAM, END_OF_CODESTREAM = b"\xff\x4f\xff\x51", b"\xff\xd9"  # how JPEG 2000 begins and ends where no box holds it


def ends_early(location: str) -> bool:
    """Return whether bytes are missing at the end of a file; False where the format does not state its length."""
    size = opened.file_status(location).st_size
    with opened.independent_reader(location) as file:
        head = file.read(BOX_HEADER_BYTES)
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little") > size
        if head[4:8] in BOXES:
            return _breaks_off(file, size)
        return head.startswith(CODESTREAM) and not _has_codestream_end(file, size)


def _breaks_off(file: BinaryIO, size: int) -> bool:
    """Return whether a box of the file ends behind the file."""
    at = 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(BOX_HEADER_BYTES)
        if len(head) < 8:
            return len(head) > 0
        length = int.from_bytes(head[:4])
        if length == 0:  # to the end of the file
            return head[4:8] == b"jp2c" and not _has_codestream_end(file, size)
        if length == 1:
            length = int.from_bytes(head[8:])
        if length < 8 or at + length > size:
            return length >= 8
        at += length
    return False


def _has_codestream_end(file: BinaryIO, size: int) -> bool:
    file.seek(max(size - len(END_OF_CODESTREAM), 0))
    return file.read() == END_OF_CODESTREAM
