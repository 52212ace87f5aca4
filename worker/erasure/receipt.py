"""The receipt of an erasure: the request, the rows and files that went, and a hash over all of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedFile:
    """A file that an erasure concerns."""

    media_id: int
    sha256: str | None
    """Hash of its bytes; None where they could never be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankedStrip:
    """A strip in which some crops were blacked out; the others show other people."""

    path: str
    crops: int
    """Number of crops that were blacked out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedFiles:
    """Files of this deployment that were removed, blanked or left."""

    crops: tuple[str, ...] = ()
    """Strips that were removed, as paths below the crop store."""
    blanked: tuple[BlankedStrip, ...] = ()
    staged: tuple[str, ...] = ()
    """Copies of archive members and fetched objects, as paths below the staging folder."""
    left: int = 0
    """Number of entries that could not be removed and wait: their store is away, or they are on another host."""
    watched: int = 0
    """Number of folders that are searched again, because a worker held the file and may still write crops there."""

    def __add__(self, other: RemovedFiles) -> RemovedFiles:
        return RemovedFiles(
            crops=self.crops + other.crops,
            blanked=self.blanked + other.blanked,
            staged=self.staged + other.staged,
            left=self.left + other.left,
            watched=self.watched + other.watched,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The result of an erasure."""

    asked: str
    """The request: ``media 12``."""
    at: datetime
    program: str
    """Version of the program."""
    dry_run: bool
    """Nothing was erased: the receipt lists what would be."""
    media: tuple[ErasedFile, ...] = ()
    """Files that went whole."""
    sealed: tuple[ErasedFile, ...] = ()
    """Files that stay without the person; they are never analysed again."""
    people: tuple[int, ...] = ()
    """Numbers of people without an appearance left."""
    failed: tuple[int, ...] = ()
    """Numbers of files that are due and could not be erased; `facet doctor` shows the errors."""
    rows: dict[str, int] = field(default_factory=dict)
    """Number of deleted rows, by table."""
    files: RemovedFiles = field(default_factory=RemovedFiles)

    def with_files(self, files: RemovedFiles) -> Receipt:
        """Return the same receipt with its files."""
        return replace(self, files=files)

    def as_dict(self) -> dict[str, object]:
        """Return the receipt for JSON, with ``receipt_sha256``, the `fingerprint` of everything else."""
        content = asdict(self) | {"at": self.at.isoformat()}
        return content | {"receipt_sha256": fingerprint(content)}


def join_receipts(receipts: Sequence[Receipt]) -> Receipt:
    """Join the receipts of several erasures that were requested at once."""
    tables = sorted({table for one in receipts for table in one.rows})
    return replace(
        receipts[-1],
        media=tuple(file for one in receipts for file in one.media),
        sealed=tuple(file for one in receipts for file in one.sealed),
        people=tuple(person for one in receipts for person in one.people),
        failed=tuple(media_id for one in receipts for media_id in one.failed),
        rows={table: sum(one.rows.get(table, 0) for one in receipts) for table in tables},
        files=sum((one.files for one in receipts), RemovedFiles()),
    )


def fingerprint(content: dict[str, object]) -> str:
    """Hash a receipt without its own hash: SHA-256 of its JSON with sorted keys, no blanks, ASCII only."""
    plain = {name: value for name, value in content.items() if name != "receipt_sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
