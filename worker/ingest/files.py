"""Reads one file: media, or an archive whose members are read."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import MediaError
from worker.ingest.archives import tars, zips
from worker.ingest.archives.inflate import DISK_ERRNOS, ArchiveRefused, Budget
from worker.ingest.archives.members import Refusal
from worker.ingest.items import FoundFile, RefusedFile
from worker.ingest.sidecars import sidecar
from worker.ingest.sniff import HEAD_BYTES, Archive, Media, Other, sniff
from worker.ingest.walk import display, open_file, refused_path
from worker.storage import remote
from worker.storage.fetch_cache import FetchCache
from worker.storage.roots import local_roots, place_of_open
from worker.storage.staging import Staging, digest
from worker.storage.stamps import settled_stamp, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.ingest.archives.members import Member
    from worker.ingest.items import IngestOptions
    from worker.storage.staging import Readable

MEMBER_SEPARATOR = "!/"  # between an archive and its member in a URI
MEMBER_ERRORS = (*zips.ZIP_ERRORS, *tars.TAR_ERRORS)


@dataclass(frozen=True, slots=True)
class _Opened:
    """An archive that is being read, and how deep it is nested."""

    path: Path
    uri: str
    archive: Archive
    budget: Budget
    depth: int


class FileReader:
    """Read files one after the other.

    Args:
        options: limits.
        staging: folder for members of archives.
        wanted: address of the only member that is unpacked; None for all.
    """

    def __init__(self, options: IngestOptions, staging: Path, wanted: str | None = None) -> None:
        self._options = options
        self._roots = local_roots(options.roots)
        self._wanted = wanted
        self._staging = Staging(staging.absolute())
        self._cache = FetchCache(staging, options.cache_bytes)

    def read(self, path: str, *, follow: bool) -> Iterator[FoundFile | RefusedFile]:
        """Yield one file on disk, or the members of an archive.

        Args:
            path: of the file.
            follow: whether it may be a link.

        Raises:
            RetryableError: the staging folder cannot be written.
        """
        uri = display(path)
        try:
            with open_file(path, follow=follow) as file:
                if self._leads_out(file.fileno()):
                    yield RefusedFile(uri, "link", "it leads out of what may be read")
                    return
                before = os.fstat(file.fileno())
                size = before.st_size
                head = file.read(HEAD_BYTES)
                sniffed = sniff(head)
                if isinstance(sniffed, Media):
                    found = self._found(path, uri, sniffed, head, file)
                    stamp = found.stamp or settled_stamp(before, os.fstat(file.fileno()))
                    yield replace(found, stamp=stamp)
                elif isinstance(sniffed, Archive):
                    path_of_open = Path(f"/proc/self/fd/{file.fileno()}")
                    yield from self._read_archive(_Opened(path_of_open, uri, sniffed, Budget(self._options, size), 0))
                else:
                    yield _refused(sniffed, uri, head, size)
        except OSError as err:
            yield refused_path(path, err)

    def _leads_out(self, descriptor: int) -> bool:
        """Return whether an open file lies outside of the roots: a link may have replaced a folder after the check."""
        if not self._roots:
            return False
        return not any(place_of_open(descriptor).is_relative_to(root) for root in self._roots)

    def read_remote(self, file: remote.RemoteFile) -> Iterator[FoundFile | RefusedFile]:
        """Yield one remote file, or the members of an archive; a file that is neither is not fetched.

        Raises:
            RetryableError: the staging folder cannot be written.
        """
        try:
            head = remote.read_head(file, HEAD_BYTES)
            sniffed = sniff(head)
            if isinstance(sniffed, Other):
                yield _refused(sniffed, file.url, head, file.byte_size)
                return
            with self._cache.open_copy(lambda: remote.start_transfer(file)) as copy:
                if isinstance(sniffed, Archive):
                    budget = Budget(self._options, file.byte_size)
                    yield from self._read_archive(_Opened(copy.path, file.url, sniffed, budget, 0))
                else:
                    yield FoundFile(file.url, file.url, copy.sha256, sniffed.kind, sniffed.format, file.byte_size)
        except MediaError as err:
            code = "unreadable" if err.code == "away" else err.code
            yield RefusedFile(file.url, code, str(err), byte_size=file.byte_size)

    def _found(self, path: str, uri: str, media: Media, head: bytes, rest: Readable) -> FoundFile:
        location = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links
        stamp = None
        if _is_text(str(location)):
            content = digest(head, rest)
        else:  # the database cannot hold such a path: a copy gets a name that it can
            location, content = self._staging.add(head, rest, media.extension)
            stamp = stamp_of(location.stat())
        return FoundFile(uri, location, content.sha256, media.kind, media.format, content.byte_size, stamp)

    def _read_archive(self, opened: _Opened) -> Iterator[FoundFile | RefusedFile]:
        """Yield the members of an archive; if it cannot be read to its end, the reason comes last."""
        count = 0
        try:
            members = (
                zips.zip_members(opened.path, opened.budget)
                if opened.archive.format == "zip"
                else tars.tar_members(opened.path, opened.archive.format, opened.budget)
            )
            for member in members:
                count += 1
                yield from self._member(member, opened)
        except ArchiveRefused as err:
            # a nested archive exceeds the budget of its parents, too: each of them is reported
            yield RefusedFile(opened.uri, err.code, f"{err}; {count} members were read before" if count else str(err))
            if err.code == "archive_bomb" and opened.depth:
                raise
            return
        except OSError as err:
            yield RefusedFile(opened.uri, "unreadable", err.strerror or str(err))
            return
        if not count:
            yield RefusedFile(opened.uri, "empty", "the archive holds no files")

    def _member(self, member: Member, opened: _Opened) -> Iterator[FoundFile | RefusedFile]:
        uri = opened.uri + MEMBER_SEPARATOR + _text(member.name)
        if self._wanted not in {None, uri} and not str(self._wanted).startswith(uri + MEMBER_SEPARATOR):
            return
        if member.refusal:
            yield RefusedFile(uri, member.refusal.code, member.refusal.message, byte_size=member.byte_size)
            return
        try:
            stream = member.open()
            head = _read_head(stream)
            sniffed = sniff(head)
            if isinstance(sniffed, Archive):
                yield from self._nested(head, stream, replace(opened, uri=uri, archive=sniffed, depth=opened.depth + 1))
            else:
                yield self._single(head, stream, uri, sniffed, member.byte_size)
        except MEMBER_ERRORS as err:
            refusal = _broken(err)
            yield RefusedFile(uri, refusal.code, refusal.message, byte_size=member.byte_size)

    def _single(
        self, head: bytes, rest: Readable, uri: str, sniffed: Media | Other, size: int
    ) -> FoundFile | RefusedFile:
        if isinstance(sniffed, Other):
            return _refused(sniffed, uri, head, size)
        location, content = self._staging.add(head, rest, sniffed.extension)
        stamp = stamp_of(location.stat())
        return FoundFile(uri, location, content.sha256, sniffed.kind, sniffed.format, content.byte_size, stamp)

    def _nested(self, head: bytes, rest: Readable, inner: _Opened) -> Iterator[FoundFile | RefusedFile]:
        if inner.depth > self._options.archive_depth:
            message = "an archive this deep inside others is not opened; unpack it first"
            yield RefusedFile(inner.uri, "nested_archive", message)
            return
        with self._staging.temporary_copy(head, rest) as path:
            yield from self._read_archive(replace(inner, path=path))


def _refused(sniffed: Other, uri: str, head: bytes, size: int | None) -> RefusedFile:
    """Return the refusal of a file that is not media: as a sidecar, or with the reason of its format."""
    what = sidecar(head, uri)
    if what:
        return RefusedFile(uri, "sidecar", what, byte_size=size)
    return RefusedFile(uri, sniffed.code, sniffed.message, byte_size=size)


def _read_head(stream: Readable) -> bytes:
    """Read as many bytes as a signature needs; a single read may return fewer."""
    head = b""
    while len(head) < HEAD_BYTES and (chunk := stream.read(HEAD_BYTES - len(head))):
        head += chunk
    return head


def _broken(err: Exception) -> Refusal:
    if isinstance(err, NotImplementedError):
        return Refusal("unsupported_format", f"packed in a way that is not read here ({err})")
    if isinstance(err, OSError) and err.errno in DISK_ERRNOS:
        return Refusal("unreadable", f"the archive cannot be read here ({err.strerror})")
    return Refusal("corrupt", f"the member cannot be unpacked ({err})")


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(name: str) -> str:
    """Return a member's name as text that a database can hold."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
