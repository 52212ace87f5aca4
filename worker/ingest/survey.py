"""Counts the files of a submission by their first bytes, without reading them to their end."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.errors import MediaError
from worker.ingest.discover import NamedPath, walk_arguments
from worker.ingest.items import RefusedFile
from worker.ingest.sidecars import sidecar
from worker.ingest.sniff import HEAD_BYTES, Archive, Media, sniff
from worker.ingest.walk import open_file
from worker.storage.remote import read_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.ingest.items import IngestOptions
    from worker.storage.remote import RemoteFile


@dataclass(slots=True)
class Survey:
    """Counts of files by kind."""

    images: int = 0
    videos: list[str] = field(default_factory=list)
    """Their paths or URLs."""
    archives: int = 0
    """Zip and tar files, whose members are not counted."""
    sidecars: int = 0
    others: int = 0
    """Files that are no media, or that cannot be read."""
    byte_size: int = 0
    """Of images, videos and archives."""


def survey(paths: Sequence[str], options: IngestOptions) -> Survey:
    """Count files.

    Raises:
        UsageError: an argument names nothing, an empty folder, or something outside of ``options.roots``.
    """
    found = Survey()
    for item in walk_arguments(paths, options):
        if isinstance(item, RefusedFile):
            found.others += 1
            continue
        try:
            _count(found, *_read(item))
        except (OSError, MediaError):
            found.others += 1
    return found


def _read(item: NamedPath | RemoteFile) -> tuple[str, bytes, int]:
    """Return a file's place, its first bytes, and its size."""
    if not isinstance(item, NamedPath):
        return item.url, read_head(item, HEAD_BYTES), item.byte_size
    with open_file(item.path, follow=item.follow) as file:
        return item.path, file.read(HEAD_BYTES), os.fstat(file.fileno()).st_size


def _count(found: Survey, path: str, head: bytes, size: int) -> None:
    sniffed = sniff(head)
    if isinstance(sniffed, Media) and sniffed.kind == "image":
        found.images += 1
    elif isinstance(sniffed, Media):
        found.videos.append(path)
    elif isinstance(sniffed, Archive):
        found.archives += 1
    elif sidecar(head, path) is not None:
        found.sidecars += 1
        return
    else:
        found.others += 1
        return
    found.byte_size += size
