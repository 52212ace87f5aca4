"""Detects encrypted videos by the unencrypted marks in their containers."""

from __future__ import annotations

import re

from worker.decode import opened

SEARCHED_BYTES = 1 << 20  # at the beginning and at the end of a file, where containers describe their streams
_MARKS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"(?:encv|drmi).{8,400}?sinf",  # MP4: protected sample entries (ISO/IEC 14496-12) and those of FairPlay
        rb"\x50\x33(?:\x81|\x40\x01)\x01.{0,64}?\x50\x35|\x50\x35.{0,64}?\x50\x33\x81\x01",  # Matroska: encodings
        rb"\xfb\xb3\x11\x22\x23\xbd\xd2\x11\xb4\xb7\x00\xa0\xc9\x55\xfc\x6e",  # ASF: encryption, then its extended form
        rb"\x14\xe6\x8a\x29\x22\x26\x17\x4c\xb9\x35\xda\xe0\x7e\xe9\x28\x9c",
    )
)
_HEADER = rb"(G[\0-\x7f].[\x10-\xff])"
_PACKETS = re.compile(
    rb"(?=" + rb"|".join(_HEADER + (rb".{%d}G" % (size - 4)) for size in (188, 192, 204)) + rb")", re.DOTALL
)
_PES = re.compile(rb"\0\0\x01[\xe0-\xef]..([\x80-\xbf])", re.DOTALL)
MIN_PACKETS = 20  # fewer are no evidence


def is_encrypted(location: str) -> bool:
    """Return whether the container states that a video is encrypted."""
    size = opened.file_status(location).st_size
    with opened.independent_reader(location) as file:
        parts = [file.read(SEARCHED_BYTES)]
        if size > 2 * SEARCHED_BYTES:
            file.seek(size - SEARCHED_BYTES)
            parts.append(file.read(SEARCHED_BYTES))
    if any(mark.search(part) for mark in _MARKS for part in parts):
        return True
    return _is_scrambled(parts[0])


def _is_scrambled(part: bytes) -> bool:
    """Return whether most packets of a transport stream, or of a disc's stream, are marked as scrambled."""
    headers = [next(filter(None, found)) for found in _PACKETS.findall(part)]
    transport = [bool(header[3] & 0xC0) for header in headers if header[3] & 0x10]
    disc = [bool(flags[0] & 0x30) for flags in _PES.findall(part)] if part.startswith(b"\0\0\x01\xba") else []
    return any(len(marks) >= MIN_PACKETS and sum(marks) * 2 > len(marks) for marks in (transport, disc))
