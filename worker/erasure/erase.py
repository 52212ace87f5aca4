"""Erases files and people: rows in one transaction, then the files that were noted in it.

One erasure at a time changes people, and none runs while a submission writes: it holds both locks. The rows of workers
are locked without waiting, and tried again for a while where somebody has them.
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
from worker.erasure.files import list_files, note_files, read_entries
from worker.erasure.find import find_media, find_person, still_due
from worker.erasure.receipt import ErasedFile, Receipt
from worker.erasure.removal import Remover
from worker.erasure.rows import count_jobs, delete, delete_people, find_emptied_people, refresh_left, seal
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

    from worker.erasure.files import NotedFiles, Stores

LOCK_WAIT_SECONDS = 60.0
PAUSE_SECONDS = 0.1
LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases in one deployment."""

    sessions: sessionmaker[Session]
    stores: Stores
    dry_run: bool = False
    """Do everything, then take it back: the receipt says what would go."""
    lock_wait_seconds: float = LOCK_WAIT_SECONDS
    """How long rows that somebody holds are tried for; workers hold theirs for milliseconds."""
    files_seconds: float = float("inf")
    """How long files are removed for after their rows; what is left then waits, as if the store were away."""

    def erase_media(self, wanted: Sequence[str]) -> Receipt:
        """Erase files, each given by number, SHA-256 or path.

        Raises:
            UsageError: one of them is not there; nothing was erased.
            RetryableError: somebody went on working on them; nothing was erased.
        """

        def choose(session: Session) -> None:
            select_media(session, sorted({find_media(session, one) for one in wanted}))

        return self._erase("media " + ", ".join(wanted), choose)

    def erase_person(self, person_id: int) -> Receipt:
        """Erase a person from all files, which keep everybody else and are never analysed again.

        Raises:
            UsageError: there is no such person.
            RetryableError: somebody went on working on the files; nothing was erased.
        """

        def choose(session: Session) -> None:
            find_person(session, person_id)
            select_person(session, person_id)

        with self.sessions() as session:
            release_id = find_person(session, person_id)
        Identifier(self.sessions, release_id).finish()  # appearances that wait for their person may be this one's
        return self._erase(f"person {person_id}", choose)

    def erase_due(self, seconds: float = float("inf"), *, again: bool = True) -> Iterator[Receipt]:
        """Erase files whose time is over, some at a time, until none is left or the seconds are over.

        A file that cannot be erased is noted, and named in a receipt of its own; the others go.

        Args:
            seconds: after them no more is begun.
            again: also try files whose erasure failed a moment ago.
        """
        return Retention(self, time.monotonic() + seconds, again).run()

    def erase_due_files(self, media: Sequence[int]) -> Receipt:
        """Erase those of some files that no job keeps, in one transaction.

        Raises:
            RetryableError: another process held one of them for longer than this one waits; nothing was erased.
        """
        return self._erase("due", lambda session: select_media(session, still_due(session, media)))

    def with_lock_wait(self, seconds: float) -> Self:
        """Return one that tries rows that somebody holds for at most so long."""
        return replace(self, lock_wait_seconds=min(seconds, self.lock_wait_seconds))

    def empty_receipt(self, asked: str) -> Receipt:
        """Give the receipt of an erasure that found nothing."""
        return Receipt(asked=asked, at=datetime.now(UTC), program=code_version(), dry_run=self.dry_run)

    def finish_files(self, seconds: float = float("inf"), *, again: bool = True) -> int:
        """Remove the files that earlier erasures left; returns how many entries could not be removed still.

        Args:
            seconds: after them no more is begun.
            again: also try what failed a moment ago.
        """
        return Remover(self.sessions, self.stores, time.monotonic() + seconds).finish(again=again)

    def _erase(self, asked: str, choose: Callable[[Session], None]) -> Receipt:
        until = time.monotonic() + self.lock_wait_seconds
        while True:
            try:
                receipt, noted = retry_conflicts("erase", lambda: self._take(asked, choose))
                break
            except OperationalError as err:
                if getattr(err.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                    raise
                if time.monotonic() > until:
                    raise RetryableError("somebody works on what is to be erased; run it again in a moment") from err
            time.sleep(PAUSE_SECONDS)
        if self.dry_run:
            return receipt
        remover = Remover(self.sessions, self.stores, time.monotonic() + self.files_seconds)
        return receipt.with_files(remover.remove(noted))

    def _take(self, asked: str, choose: Callable[[Session], None]) -> tuple[Receipt, NotedFiles]:
        """Erase rows in a transaction; returns the receipt, and the files that are left to be removed."""
        with self.sessions() as session:
            lock_people(session)
            lock_submissions(session)
            choose(session)
            noted = note_files(session, self.stores.staging)
            receipt = _take_rows(session, asked, dry_run=self.dry_run)
            if not self.dry_run:
                session.commit()
                return receipt, noted
            entries = read_entries(session, noted)
            session.rollback()
            return receipt.with_files(list_files(session, self.stores, entries, noted.checks)), noted


def _take_rows(session: Session, asked: str, *, dry_run: bool) -> Receipt:
    """Take what is doomed out of all tables."""
    media, sealed = _files(session, "target_media"), _files(session, "target_sealed")
    keep_names(session)
    count_jobs(session)
    rows = Counter(delete(session))
    if sealed:
        seal(session)
    people = find_emptied_people(session)
    rows["correction"] = delete_corrections(session, people)
    refresh_left(session, people)
    rows.update(delete_people(session, people))
    count_people(session)
    return Receipt(
        asked=asked,
        at=datetime.now(UTC),
        program=code_version(),
        dry_run=dry_run,
        media=media,
        sealed=sealed,
        people=people,
        rows={table: count for table, count in rows.items() if count},
    )


def _files(session: Session, table: str) -> tuple[ErasedFile, ...]:
    statement = f"SELECT media_id, sha256 FROM media_file JOIN {table} ON id = media_id ORDER BY media_id"  # noqa: S608 - constant names
    return tuple(ErasedFile(media_id=row.media_id, sha256=row.sha256) for row in session.execute(text(statement)))
