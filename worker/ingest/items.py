"""What ingest hands on, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from worker.types import MediaKind

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that looks like media."""

    uri: str
    """Where it was found, for people: an absolute path, and after each archive ``!/`` and the member's name."""
    location: Path | str
    """The file to open: itself, its copy in the staging folder, or its URL."""
    sha256: str
    kind: MediaKind
    format: str
    """Short lower-case name by its first bytes: jpeg, heic, mp4, matroska, ..."""
    byte_size: int
    stamp: str | None = field(default=None, compare=False)
    """Of the file that was hashed, as ``worker.storage.stamps`` makes them; None where it may have changed unseen."""


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that is not analysed, and why; its bytes were not read to their end, so its name is all that tells it."""

    uri: str
    code: str
    """A stable word; docs/reasons.md lists them."""
    message: str
    byte_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """Where ingest may look, and how much an archive may hold."""

    roots: tuple[str, ...] = ()
    """Folders and URLs outside of which nothing is opened; none: no restriction."""
    cache_bytes: int = 20 * GIB
    """Room for files that are fetched, and the largest of them."""
    archive_bytes: int = 256 * GIB
    """Inflated bytes of one archive, archives inside it included."""
    archive_ratio: float = 200.0
    """Inflated over packed bytes, once ``archive_ratio_from`` bytes are inflated. Media hardly shrink; bombs do."""
    archive_ratio_from: int = GIB // 4
    archive_entries: int = 1_000_000
    archive_depth: int = 1
    """How many archives may be around an archive that is opened: one inside another, and no deeper."""
