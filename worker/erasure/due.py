"""Retention: erases the files that no job keeps any longer, in batches; a file that fails delays no other."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Self

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from worker.erasure.find import find_due
from worker.errors import FacetError, RetryableError
from worker.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from worker.erasure.receipt import Receipt

logger = logging.getLogger(__name__)

FILES_AT_ONCE = 5000  # files that are looked up at once
BATCH_SECONDS = 1.0  # of one transaction: it blocks identification and submissions
# Rows of the first transaction, and bounds of all later ones; the number follows the time that the one before took.
FIRST_ROWS, MIN_ROWS, MAX_ROWS = 1000, 100, 100_000
ROWS_OF_A_FILE = 10  # items, analyses, units and the like, as far as they cost time; faces are counted besides
FIRST_FILE_PAUSE_SECONDS = 60.0  # before a failed file is tried again; doubles with every attempt, also in removal.py
MAX_FILE_PAUSE_SECONDS = 86400.0
LONE_LOCK_WAIT_SECONDS = 0.5  # for locked rows of one file, once the files of its batch are tried one by one
ERROR_CHARACTERS = 500  # of a message that is stored
# Errors that concern one file of a batch and not the others.
ERASURE_ERRORS = (
    SQLAlchemyError, FacetError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    AssertionError, RuntimeError, MemoryError,
)  # fmt: skip
# Beginnings of SQLSTATEs that concern no single file: no connection, shutting down, disk full, too many connections.
DATABASE_STATES = ("08", "57P", "53100", "53300")

_FACES = text("""
    SELECT media_id, sum(face_count) AS faces FROM analysis
    WHERE media_id = ANY(cast(:media AS bigint[])) GROUP BY media_id""")
_FAILED = text("""
    INSERT INTO erasure_failure AS f (media_id, error, not_before)
    SELECT media_id, :error, now() + make_interval(secs => :first) FROM media_file WHERE media_id = :media_id
    ON CONFLICT (media_id) DO UPDATE SET attempts = f.attempts + 1, error = excluded.error, failed_at = now(),
        not_before = now() + make_interval(secs => least(:most, :first * 2 ^ least(f.attempts, 30)))""")


class BatchEraser(Protocol):
    """Erases some files in one transaction."""

    @property
    def sessions(self) -> sessionmaker[Session]:
        """Return the sessions of the database."""
        ...

    @property
    def dry_run(self) -> bool:
        """Return whether each erasure is rolled back."""
        ...

    def with_lock_wait(self, seconds: float) -> Self:
        """Return an eraser that waits for locked rows for at most so long."""
        ...

    def erase_due_files(self, media: Sequence[int]) -> Receipt:
        """Erase those of some files that no job keeps any longer."""
        ...

    def empty_receipt(self, asked: str) -> Receipt:
        """Return the receipt of an erasure that found nothing."""
        ...


@dataclass(slots=True)
class Retention:
    """Erases due files until none is left or its own time is over.

    Args:
        eraser: erases a batch.
        until: end of its time, on the monotonic clock.
        again: whether files are tried whose next attempt is not due yet.
    """

    eraser: BatchEraser
    until: float
    again: bool = False
    _seen: set[int] = field(default_factory=set)
    """Files that were tried and still exist."""
    _rows: int = FIRST_ROWS
    """Rows of the next transaction."""

    def run(self) -> Iterator[Receipt]:
        """Yield a receipt for each batch, and one for each file that cannot be erased."""
        limit = None if self.eraser.dry_run else FILES_AT_ONCE
        while time.monotonic() < self.until:
            with self.eraser.sessions() as session:
                waiting = find_due(session, limit=limit, excluding=self._seen, again=self.again)
            if not waiting:
                return
            yield from self._batches(waiting)

    def _batches(self, waiting: Sequence[int]) -> Iterator[Receipt]:
        rows = self._count_rows(waiting)
        start = 0
        while start < len(waiting) and time.monotonic() < self.until:
            stop, asked = start + 1, rows[start]
            while stop < len(waiting) and asked + rows[stop] <= self._rows:
                asked += rows[stop]
                stop += 1
            began = time.monotonic()
            yield from self._erase(waiting[start:stop])
            self._seen.update(waiting[start:stop] if self.eraser.dry_run else ())
            self._adapt(asked, time.monotonic() - began)
            start = stop

    def _count_rows(self, waiting: Sequence[int]) -> list[int]:
        with self.eraser.sessions() as session:
            faces = {row.media_id: int(row.faces) for row in session.execute(_FACES, {"media": list(waiting)})}
        return [ROWS_OF_A_FILE + faces.get(media_id, 0) for media_id in waiting]

    def _adapt(self, rows: int, seconds: float) -> None:
        """Set the rows of the next transaction so that it takes about `BATCH_SECONDS`."""
        wanted = rows * BATCH_SECONDS / max(seconds, 1e-3)
        self._rows = int(min(MAX_ROWS, max(MIN_ROWS, min(wanted, 2.0 * self._rows))))

    def _erase(self, media: Sequence[int]) -> Iterator[Receipt]:
        """Erase some files; where that fails, erase both halves separately, down to the files at fault."""
        eraser = self.eraser
        if len(media) == 1:
            eraser = eraser.with_lock_wait(LONE_LOCK_WAIT_SECONDS)
        try:
            receipt = eraser.erase_due_files(media)
        except ERASURE_ERRORS as err:
            if _is_database_error(err):
                raise
            if len(media) == 1:
                yield self._fail(media[0], err)
                return
            half = len(media) // 2
            yield from self._erase(media[:half])
            yield from self._erase(media[half:])
            return
        yield receipt

    def _fail(self, media_id: int, err: BaseException) -> Receipt:
        """Store the failure of a file: it is passed over until its next attempt is due."""
        self._seen.add(media_id)
        lines = str(getattr(err, "orig", None) or err).strip().splitlines() or [type(err).__name__]
        error = masked(f"{type(err).__name__}: {lines[0]}")[:ERROR_CHARACTERS]
        level = logging.WARNING if isinstance(err, RetryableError) else logging.ERROR
        facts = {"action": "erasure_failed", "media_id": media_id}
        logger.log(level, "file %s is due and cannot be erased: %s", media_id, error, extra=facts)
        parameters = {
            "media_id": media_id,
            "error": error,
            "first": FIRST_FILE_PAUSE_SECONDS,
            "most": MAX_FILE_PAUSE_SECONDS,
        }
        if not self.eraser.dry_run:
            with self.eraser.sessions.begin() as session:
                session.execute(_FAILED, parameters)
        return replace(self.eraser.empty_receipt("due"), failed=(media_id,))


def _is_database_error(err: BaseException) -> bool:
    """Return whether the database is away, so that every file would fail."""
    if not isinstance(err, DBAPIError):
        return False
    state = getattr(err.orig, "sqlstate", None)
    return err.connection_invalidated or state is None or str(state).startswith(DATABASE_STATES)
