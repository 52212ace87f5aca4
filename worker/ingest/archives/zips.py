"""Reads the members of zip archives."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from worker.ingest.archives.inflate import ArchiveRefused, Metered
from worker.ingest.archives.members import Member, Refusal, unsafe_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.ingest.archives.inflate import Budget

ENCRYPTED = 0x1  # first bit of a member's flags
END_RECORD = struct.Struct("<4s4H2LH")
END_BYTES = END_RECORD.size + (1 << 16)  # the end record may be followed by a comment of this length
ENTRY_BYTES = 46  # minimum size of one entry of the directory
DIRECTORY_BYTES = 512 << 20  # maximum: Python keeps the directory in memory, about five times as large

# Raised by ``zipfile`` for a damaged directory.
DIRECTORY_ERRORS = (zipfile.BadZipFile, struct.error, ValueError, EOFError, NotImplementedError, LookupError)
# Raised by ``zipfile`` for damaged or unknown members.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


def zip_members(path: Path, budget: Budget) -> Iterator[Member]:
    """Yield the members in the order of the directory; read each before taking the next.

    Raises:
        ArchiveRefused: the archive is damaged or a bomb.
    """
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.filename.endswith("/"):
                    yield _member(archive, info, budget)
    except DIRECTORY_ERRORS as err:
        raise ArchiveRefused("corrupt", f"not a zip archive that can be read ({err})") from err


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Member:
    budget.entry()
    mode = info.external_attr >> 16
    refusal = None
    if info.flag_bits & ENCRYPTED:
        refusal = Refusal("encrypted", "the member is encrypted; unpack the archive with its password first")
    elif stat.S_ISLNK(mode):
        refusal = Refusal("link", "links in archives are not followed")
    elif stat.S_IFMT(mode) and not stat.S_ISREG(mode):
        refusal = Refusal("special_file", "neither a file nor a folder")
    return Member(
        info.filename,
        info.file_size,
        refusal or unsafe_name(info.filename),
        lambda: Metered(archive.open(info), budget),
    )


def _check_directory(path: Path) -> None:
    """Check the size of the directory before ``zipfile`` reads all of it into memory.

    The count in the end record may be false; the size of the directory cannot exceed that of the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - END_BYTES, 0))
        tail = file.read()
    start = tail.rfind(b"PK\5\6")
    if start < 0 or len(tail) - start < END_RECORD.size:
        raise ArchiveRefused("truncated", "the zip archive ends before its directory")
    directory = END_RECORD.unpack_from(tail, start)[5]
    if directory == 0xFFFFFFFF and tail[start - 20 : start - 16] == b"PK\6\7":  # sizes are in the 64-bit record
        offset = int.from_bytes(tail[start - 12 : start - 4], "little")
        with path.open("rb") as file:
            file.seek(min(offset, size))
            directory = int.from_bytes(file.read(56)[40:48], "little")
    if min(directory, size) > DIRECTORY_BYTES:
        raise ArchiveRefused(
            "too_many_entries", f"a directory of {directory} bytes, at most {DIRECTORY_BYTES} are read"
        )
