"""Erases files and people: rows in one transaction, then the files that were noted in it.

One erasure at a time changes people, and none runs while a submission writes: it holds both locks. The rows of workers
are locked without waiting, and tried again for a while where somebody has them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from worker.erasure.doomed import choose_media, choose_person
from worker.erasure.files import list_files, note_files, remove_file
from worker.erasure.find import find_due, find_media, find_person
from worker.erasure.receipt import ErasedFile, Receipt, RemovedFiles
from worker.erasure.rows import count_jobs, delete, delete_people, find_nobodies, refresh_left, seal
from worker.erasure.words import drop_words, keep_names
from worker.errors import FacetError, RetryableError
from worker.identity.known import lock_people
from worker.identity.people import Identifier
from worker.registry import code_version
from worker.submit import lock_submissions
from worker.transactions import retry_conflicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from worker.erasure.files import Stores

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.1
DUE_FILES = 20
"""Files that go in one transaction when their time is over: some seconds, even of films."""
LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases in one deployment."""

    sessions: sessionmaker[Session]
    stores: Stores
    dry_run: bool = False
    """Do everything, then take it back: the receipt says what would go."""
    patience_seconds: float = PATIENCE_SECONDS
    """How long rows that somebody holds are tried for; workers hold theirs for milliseconds."""

    def erase_media(self, wanted: Sequence[str]) -> Receipt:
        """Erase files, each given by number, SHA-256 or path.

        Raises:
            UsageError: one of them is not there; nothing was erased.
            RetryableError: somebody went on working on them; nothing was erased.
        """

        def choose(session: Session) -> None:
            choose_media(session, sorted({find_media(session, one) for one in wanted}))

        return self._erase("media " + ", ".join(wanted), choose)

    def erase_person(self, person_id: int) -> Receipt:
        """Erase a person from all files, which keep everybody else and are never analysed again.

        Raises:
            UsageError: there is no such person.
            RetryableError: somebody went on working on the files; nothing was erased.
        """

        def choose(session: Session) -> None:
            find_person(session, person_id)
            choose_person(session, person_id)

        with self.sessions() as session:
            release_id = find_person(session, person_id)
        Identifier(self.sessions, release_id).finish()  # appearances that wait for their person may be this one's
        return self._erase(f"person {person_id}", choose)

    def erase_due(self, seconds: float = float("inf")) -> Iterator[Receipt]:
        """Erase files whose time is over, a few at a time, until none is left or the seconds are over.

        Raises:
            RetryableError: somebody went on working on one of them.
        """
        until = time.monotonic() + seconds
        seen: list[int] = []  # of a dry run they are still there

        def choose(session: Session) -> None:
            choose_media(session, find_due(session, limit=DUE_FILES, but=seen))

        while time.monotonic() < until:
            with self.sessions() as session:
                if not find_due(session, limit=1, but=seen):
                    return
            receipt = self._erase("due", choose)
            seen += [file.media_id for file in receipt.media]
            yield receipt

    def nothing(self, asked: str) -> Receipt:
        """Give the receipt of an erasure that found nothing."""
        return Receipt(asked=asked, at=datetime.now(UTC), program=code_version(), dry_run=self.dry_run)

    def finish_files(self) -> int:
        """Remove the files that earlier erasures left; returns how many entries could not be removed still."""
        with self.sessions() as session:
            waiting = list(session.scalars(text("SELECT removal_id FROM file_removal ORDER BY removal_id")))
        return self._remove(waiting).left

    def _erase(self, asked: str, choose: Callable[[Session], None]) -> Receipt:
        until = time.monotonic() + self.patience_seconds
        while True:
            try:
                receipt, removals = retry_conflicts("erase", lambda: self._take(asked, choose))
                break
            except OperationalError as err:
                if getattr(err.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                    raise
                if time.monotonic() > until:
                    raise RetryableError("somebody works on what is to be erased; run it again in a moment") from err
            time.sleep(PAUSE_SECONDS)
        return receipt if self.dry_run else receipt.with_files(self._remove(removals))

    def _take(self, asked: str, choose: Callable[[Session], None]) -> tuple[Receipt, list[int]]:
        """Erase rows in a transaction; gives the receipt, and the files that are left to be removed."""
        with self.sessions() as session:
            lock_people(session)
            lock_submissions(session)
            choose(session)
            removals = note_files(session, self.stores.staging)
            receipt = _take_rows(session, asked, dry_run=self.dry_run)
            if self.dry_run:
                receipt = receipt.with_files(list_files(session, self.stores, removals))
                session.rollback()
            else:
                session.commit()
        return receipt, removals

    def _remove(self, removals: Sequence[int]) -> RemovedFiles:
        """Remove files one by one; what cannot be removed waits for the next erasure, or `facet beat`."""
        done = RemovedFiles()
        for place, number in enumerate(removals):
            try:
                done += remove_file(self.sessions, self.stores, number)
            except RetryableError as err:  # a store that is away is away for all of them
                logger.warning("files wait to be removed: %s", err, extra={"action": "removal_waits"})
                return done + RemovedFiles(left=len(removals) - place)
            except FacetError as err:
                logger.warning("a file cannot be removed: %s", err, extra={"action": "removal_failed"})
                done += RemovedFiles(left=1)
        return done


def _take_rows(session: Session, asked: str, *, dry_run: bool) -> Receipt:
    """Take what is doomed out of all tables."""
    media, sealed = _files(session, "doomed_media"), _files(session, "doomed_sealed")
    keep_names(session)
    count_jobs(session)
    rows = Counter(delete(session))
    if sealed:
        seal(session)
    people = find_nobodies(session)
    rows["correction"] = drop_words(session, people)
    refresh_left(session, people)
    rows.update(delete_people(session, people))
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
