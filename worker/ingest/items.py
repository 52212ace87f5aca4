"""The values that ingest yields, and its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.ingest.selection import FileSelection

if TYPE_CHECKING:
    from pathlib import Path

    from worker.types import MediaKind


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file whose first bytes are those of media."""

    uri: str
    """Its place, for people: an absolute path, and after each archive ``!/`` and the name of the member."""
    location: Path | str
    """The file to open: itself, its copy in the staging folder, or its URL."""
    sha256: str
    kind: MediaKind
    format: str
    """Short lower-case name by its first bytes: jpeg, heic, mp4, matroska, ..."""
    byte_size: int
    stamp: str | None = field(default=None, compare=False)
    """Stamp of the hashed file (``worker.storage.stamps``); None if a change may be undetectable."""


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that is not analysed. It has no hash, since it was not read to its end: its URI identifies it."""

    uri: str
    code: str
    """A stable code; docs/reasons.md lists them."""
    message: str
    byte_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """Where ingest may read, and how much an archive may hold."""

    selection: FileSelection = field(default_factory=FileSelection)
    """Which of the files are read."""
    roots: tuple[str, ...] = ()
    """Folders and URLs outside of which nothing is opened; empty: no restriction."""
    cache_bytes: int = 20 << 30
    """Room for fetched files, and the size of the largest one."""
    archive_bytes: int = 256 << 30
    """Inflated bytes of one archive, archives inside it included."""
    archive_ratio: float = 200.0
    """Inflated over packed bytes, once ``archive_ratio_from`` bytes are inflated. Media hardly shrink; bombs do."""
    archive_ratio_from: int = 256 << 20
    archive_entries: int = 1_000_000
    archive_depth: int = 1
    """How many archives may enclose an archive that is read; 1: an archive in an archive, and no deeper."""
