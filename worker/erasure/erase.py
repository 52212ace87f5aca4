"""Erases files and people: rows in one transaction, then the files that were noted in it.

An erasure holds the lock of people and the lock of submissions, so it runs alone. It locks rows that workers may hold
without waiting; where they are locked, it starts again for a while.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from db.schema.totals import count_people
from worker.erasure.corrections import delete_corrections, keep_names
from worker.erasure.due import Retention
from worker.erasure.files import find_files, note_files, read_entries
from worker.erasure.find import find_media, find_trunks_of_person, still_due
from worker.erasure.receipt import ErasedFile, Receipt
from worker.erasure.removal import Remover
from worker.erasure.rows import (
    count_jobs,
    delete,
    delete_people,
    find_emptied_people,
    forget_answers,
    mend_appearances,
    refresh_remaining,
    seal,
)
from worker.erasure.targets import select_media, select_person
from worker.errors import RetryableError
from worker.identity.gallery import lock_people
from worker.identity.identifier import Identifier
from worker.ledger.releases import code_version
from worker.ledger.submission.submit import lock_submissions
from worker.storage.transactions import retry_conflicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from worker.erasure.files import FileStores, NotedFiles

ERASE_LOCK_WAIT_SECONDS = 60.0  # during which locked rows are tried again
ERASE_RETRY_SECONDS = 0.1  # between two attempts
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases in one deployment."""

    sessions: sessionmaker[Session]
    stores: FileStores
    dry_run: bool = False
    """Roll everything back: the receipt lists the rows and files that would go."""
    lock_wait_seconds: float = ERASE_LOCK_WAIT_SECONDS
    """Time during which locked rows are tried again; workers hold theirs for milliseconds."""
    files_seconds: float = float("inf")
    """Time for removing files after their rows; the rest waits, as if the store were away."""
    answer: Callable[[Session, Sequence[int]], None] = forget_answers
    """Computes the answers of appearances again that lost some of their faces; by default they are deleted."""

    def erase_media(self, wanted: Sequence[str]) -> Receipt:
        """Erase files, each given by number, SHA-256 or path.

        Raises:
            UsageError: one of them does not exist; nothing was erased.
            RetryableError: a worker kept their rows locked; nothing was erased.
        """

        def select(session: Session) -> None:
            select_media(session, sorted({find_media(session, one) for one in wanted}))

        return self._erase("media " + ", ".join(wanted), select)

    def erase_person(self, person_id: int) -> Receipt:
        """Erase a person from all files, which keep all other people and are never analysed again.

        Raises:
            UsageError: there is no such person.
            RetryableError: a worker kept the rows of the files locked; nothing was erased.
        """

        def select(session: Session) -> None:
            select_person(session, person_id, find_trunks_of_person(session, person_id)[0])

        with self.sessions() as session:
            trunks = find_trunks_of_person(session, person_id)
        for trunk_id in trunks:
            Identifier(self.sessions, trunk_id).finish()  # pending appearances may belong to this person
        return self._erase(f"person {person_id}", select)

    def erase_due(self, seconds: float = float("inf"), *, again: bool = True) -> Iterator[Receipt]:
        """Erase due files, batch by batch, until none is left or the time is over.

        A file that cannot be erased is noted and named in a receipt of its own; the others go.

        Args:
            seconds: time after which no further batch begins.
            again: whether files are tried whose next attempt is not due yet.
        """
        return Retention(self, time.monotonic() + seconds, again).run()

    def erase_due_files(self, media: Sequence[int]) -> Receipt:
        """Erase those of some files that no job keeps any longer, in one transaction.

        Raises:
            RetryableError: a worker kept their rows locked; nothing was erased.
        """
        return self._erase("due", lambda session: select_media(session, still_due(session, media)))

    def with_lock_wait(self, seconds: float) -> Self:
        """Return an eraser that waits for locked rows for at most so long."""
        return replace(self, lock_wait_seconds=min(seconds, self.lock_wait_seconds))

    def empty_receipt(self, asked: str) -> Receipt:
        """Return the receipt of an erasure that found nothing."""
        return Receipt(asked=asked, at=datetime.now(UTC), program=code_version(), dry_run=self.dry_run)

    def finish_files(self, seconds: float = float("inf"), *, again: bool = True) -> int:
        """Remove the files that earlier erasures left; returns the number of entries that remain.

        Args:
            seconds: time after which no further entry is tried.
            again: whether entries are tried whose next attempt is not due yet.
        """
        return Remover(self.sessions, self.stores, time.monotonic() + seconds).finish(again=again)

    def _erase(self, asked: str, select: Callable[[Session], None]) -> Receipt:
        until = time.monotonic() + self.lock_wait_seconds
        while True:
            try:
                receipt, noted = retry_conflicts("erase", lambda: self._erase_rows(asked, select))
                break
            except OperationalError as err:
                if getattr(err.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                    raise
                if time.monotonic() > until:
                    raise RetryableError("a worker is writing what is to be erased; run it again in a moment") from err
            time.sleep(ERASE_RETRY_SECONDS)
        if self.dry_run:
            return receipt
        remover = Remover(self.sessions, self.stores, time.monotonic() + self.files_seconds)
        return receipt.with_files(remover.remove(noted))

    def _erase_rows(self, asked: str, select: Callable[[Session], None]) -> tuple[Receipt, NotedFiles]:
        """Delete rows in a transaction; returns the receipt, and the noted files."""
        with self.sessions() as session:
            lock_people(session)
            lock_submissions(session)
            select(session)
            noted = note_files(session, self.stores.staging)
            receipt = self._delete_rows(session, asked)
            if not self.dry_run:
                session.commit()
                return receipt, noted
            entries = read_entries(session, noted)
            session.rollback()
            return receipt.with_files(find_files(session, self.stores, entries, noted.checks)), noted

    def _delete_rows(self, session: Session, asked: str) -> Receipt:
        """Delete the targets from all tables."""
        media, sealed = _files(session, "target_media"), _files(session, "target_sealed")
        keep_names(session)
        count_jobs(session)
        rows = Counter(delete(session))
        mend_appearances(session, self.answer)
        if sealed:
            seal(session)
        people = find_emptied_people(session)
        rows["correction"] = delete_corrections(session, people)
        refresh_remaining(session, people)
        rows.update(delete_people(session, people))
        count_people(session)
        return Receipt(
            asked=asked,
            at=datetime.now(UTC),
            program=code_version(),
            dry_run=self.dry_run,
            media=media,
            sealed=sealed,
            people=people,
            rows={table: count for table, count in rows.items() if count},
        )


def _files(session: Session, table: str) -> tuple[ErasedFile, ...]:
    statement = f"SELECT media_id, sha256 FROM media_file JOIN {table} ON id = media_id ORDER BY media_id"  # noqa: S608 - constant names
    return tuple(ErasedFile(media_id=row.media_id, sha256=row.sha256) for row in session.execute(text(statement)))
