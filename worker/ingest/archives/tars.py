"""Reads the members of tar archives, plain or compressed, as a stream."""

from __future__ import annotations

import tarfile
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from worker.ingest.archives.inflate import DISK_ERRNOS, STREAM_ERRORS, ArchiveRefused, Metered, unpacked
from worker.ingest.archives.members import Member, Refusal, unsafe_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.ingest.archives.inflate import Budget
    from worker.ingest.sniff import ArchiveFormat

HEADER_BYTES = 1 << 20  # maximum of a name or extended header, which ``tarfile`` reads into memory whatever its length
LONG_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
# Raised for a damaged archive when a member is read.
TAR_ERRORS = (tarfile.TarError, zlib.error, ValueError, LookupError, OverflowError, RecursionError, *STREAM_ERRORS)


def tar_members(path: Path, archive: ArchiveFormat, budget: Budget) -> Iterator[Member]:
    """Yield the members in their order; read each before taking the next.

    Raises:
        ArchiveRefused: the archive is damaged, a bomb, or a compressed file that holds no tar.
    """
    entries = 0
    with path.open("rb") as file:
        stream = cast("BinaryIO", Metered(unpacked(file, archive), budget))  # of which tarfile only reads
        try:
            with closing(tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header, errorlevel=2)) as tar:
                for info in tar:
                    entries += 1
                    if not info.isdir():
                        yield _member(tar, info, budget)
                    tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
        except TAR_ERRORS as err:
            raise _refusal(archive, entries, err) from err


def _refusal(archive: ArchiveFormat, entries: int, err: Exception) -> ArchiveRefused:
    if not entries and archive != "tar" and isinstance(err, tarfile.ReadError):
        return ArchiveRefused("not_media", "a compressed file that is no tar archive")
    if isinstance(err, OSError) and err.errno in DISK_ERRNOS:
        return ArchiveRefused("unreadable", f"the archive cannot be read on ({err.strerror})")
    early = isinstance(err, EOFError) or "unexpected end" in str(err) or "ended before" in str(err)
    return ArchiveRefused("truncated" if early else "corrupt", f"the archive cannot be read on ({err})")


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo, budget: Budget) -> Member:
    budget.entry()
    refusal = None
    if info.issym() or info.islnk():
        refusal = Refusal("link", "links in archives are not followed")
    elif not info.isreg():
        refusal = Refusal("special_file", "neither a file nor a folder")
    elif info.issparse():
        refusal = Refusal("special_file", "sparse members can grow without bound; pack the file in full")

    def opened() -> BinaryIO:
        file = tar.extractfile(info)
        assert file is not None  # noqa: S101  # only None for what is no regular file
        return cast("BinaryIO", file)

    return Member(info.name, info.size, refusal or unsafe_name(info.name), opened)


class _Header(tarfile.TarInfo):
    """A header with a bounded length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one block; raise an error if it is no header, which ``tarfile`` would take for the end."""
        try:
            info = super().frombuf(buf, encoding, errors)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.TruncatedHeaderError as err:  # type: ignore[attr-defined]
            raise EOFError(str(err)) from err
        except tarfile.HeaderError as err:
            raise tarfile.ReadError(str(err)) from err
        if info.type in LONG_HEADERS and info.size > HEADER_BYTES:
            raise ArchiveRefused("archive_bomb", f"a header of {info.size} bytes, at most {HEADER_BYTES} are read")
        return info
