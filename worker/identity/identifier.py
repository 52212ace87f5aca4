"""Identify stage: gives stored appearances their people, a batch at a time, by one worker at a time."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.arrays import read_rows
from db.schema.totals import count_people
from worker.errors import FacetError, described
from worker.identity.corrections.anchors import has_anchors, read_corrections
from worker.identity.corrections.conflicts import find_violations
from worker.identity.corrections.name_assignment import people_of, store_names
from worker.identity.corrections.replay import replay
from worker.identity.gallery import Gallery, lock_people, refresh_people, try_lock_people
from worker.identity.placing import ROW, ROW_COLUMNS, place, read_these
from worker.ledger import identify_attempts
from worker.ledger.identify_attempts import MAX_ATTEMPTS
from worker.ledger.releases import activate, active_release
from worker.storage.database import is_unreachable
from worker.storage.transactions import Result, retry_conflicts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session, sessionmaker

    from db.bulk.arrays import ColumnType
    from worker.identity.corrections.replay import ReplayedCorrections

    Ids = NDArray[np.int64]

logger = logging.getLogger(__name__)

BATCH_APPEARANCES = 2000  # per transaction; a video with more of them comes in several, in order of time
PAUSE_FACTOR = 10  # identifying takes at most a tenth of a worker's time while it analyses
MIN_PAUSE_SECONDS = 2.0

_ROW: Mapping[str, ColumnType] = {**ROW, "analysis_id": "bigint"}
_WAITING = f"""
    SELECT {ROW_COLUMNS}, s.analysis_id FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
    WHERE s.release_id = %(release_id)s AND s.person_id IS NULL AND s.embedding IS NOT NULL AND a.is_current
      AND a.identify_attempts = 0
    ORDER BY s.appearance_id LIMIT %(limit)s"""  # noqa: S608 - constant columns
# Of those at which identification failed before, one at a time, and fewer of its appearances at each attempt.
_WAITING_ALONE = f"""
    SELECT {ROW_COLUMNS}, s.analysis_id
    FROM (
        SELECT a.analysis_id, %(limit)s >> a.identify_attempts AS few FROM facet.analysis a
        WHERE a.release_id = %(release_id)s AND a.is_current AND a.identify_attempts BETWEEN 1 AND {MAX_ATTEMPTS - 1}
          AND EXISTS (SELECT FROM facet.appearance w WHERE w.analysis_id = a.analysis_id AND w.person_id IS NULL
                      AND w.embedding IS NOT NULL)
        ORDER BY a.identify_attempts, a.analysis_id LIMIT 1) alone
    CROSS JOIN LATERAL (
        SELECT * FROM facet.appearance t
        WHERE t.analysis_id = alone.analysis_id AND t.person_id IS NULL AND t.embedding IS NOT NULL
        ORDER BY t.ordinal LIMIT alone.few) s
    ORDER BY s.appearance_id"""  # noqa: S608 - constant columns
# Analyses whose file has another current one by now; they stand in for it until its appearances have their people. One
# that is locked has its turn next time: people are changed already, so this transaction waits for no analysis.
_SUPERSEDED = text("""
    SELECT a.analysis_id, a.media_id FROM analysis a
    WHERE a.release_id = :release_id AND a.state = 'done' AND NOT a.is_current AND NOT a.retired AND NOT EXISTS (
        SELECT FROM analysis b JOIN appearance s USING (analysis_id)
        WHERE b.media_id = a.media_id AND b.release_id = a.release_id AND b.is_current
          AND s.person_id IS NULL AND s.embedding IS NOT NULL)
    FOR NO KEY UPDATE OF a SKIP LOCKED""")


class Identifier:
    """Identifies what is pending, now and then while work goes on and fully at its end."""

    def __init__(self, sessions: sessionmaker[Session], release_id: int) -> None:
        self._sessions = sessions
        self._release_id = release_id
        self._known = Gallery(release_id)
        self._next_at = time.monotonic() + MIN_PAUSE_SECONDS

    def tick(self) -> None:
        """Identify one batch, unless that was done a moment ago or another worker is at it."""
        started = time.monotonic()
        if started < self._next_at:
            return
        try:
            identify_once(self._sessions, self._known, try_lock_people)
        except Exception as err:
            if is_unreachable(err) or isinstance(err, FacetError):
                raise
            # of no analysis: the units in flight are not at fault, and whoever finishes meets it again
            logger.exception("identification failed", extra={"action": "identify_failed"})
        spent = time.monotonic() - started
        self._next_at = time.monotonic() + max(MIN_PAUSE_SECONDS, PAUSE_FACTOR * spent)

    def finish(self) -> int:
        """Identify everything that is pending; returns how many appearances got a person."""
        return identify_all(self._sessions, self._known)


def identify_all(sessions: sessionmaker[Session], known: Gallery) -> int:
    """Identify everything that is pending, a transaction for each batch; returns how many appearances got a person."""
    total = 0
    while (done := identify_once(sessions, known, lock_people)) != 0:
        total += done or 0
    return total


def identify_once(
    sessions: sessionmaker[Session], known: Gallery, lock: Callable[[Session], bool | None]
) -> int | None:
    """Identify one batch in a transaction of its own.

    Args:
        sessions: of the database.
        known: people in memory.
        lock: takes the lock of people; where it returns False, nothing is done.

    Returns:
        How many appearances it had; None where it failed, which was counted.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is away.
        RetryableError: it met a deadlock at every try.
    """
    release_id = known.release_id
    begun: list[int] = []

    def begin(analyses: Collection[int]) -> None:
        begun.extend(analyses)
        identify_attempts.begin(sessions, release_id, analyses)

    def identify(session: Session) -> int:
        if lock(session) is False:
            return 0
        if not begun and identify_attempts.is_broken_off(session, release_id):
            identify_attempts.count_failure(
                sessions, release_id, "worker_died: a worker died or stalled while it was at it"
            )
        return identify_pending(session, known, begin)

    try:
        return change_people(sessions, "identify", known, identify)
    except Exception as err:
        if is_unreachable(err) or isinstance(err, FacetError):
            raise
        error = described(err)
        if not begun or not identify_attempts.count_failure(sessions, release_id, error):
            raise
        logger.warning("identification failed and is tried again: %s", error, extra={"action": "identify_failed"})
        return None


def change_people(
    sessions: sessionmaker[Session], kind: str, known: Gallery, work: Callable[[Session], Result]
) -> Result:
    """Run a transaction as `run_transaction`; where it fails, forget people that it may have read from itself."""

    def attempt() -> Result:
        try:
            with sessions.begin() as session:
                return work(session)
        except BaseException:
            known.forget()
            raise

    return retry_conflicts(kind, attempt)


def identify_pending(
    session: Session,
    known: Gallery,
    begin: Callable[[Collection[int]], None] = lambda _: None,
    *,
    suspects: bool = True,
) -> int:
    """Give the oldest appearances without a person one, known or new; the caller holds the lock.

    Args:
        session: an open session.
        known: people in memory.
        begin: called with the analyses of the batch before it is begun.
        suspects: whether analyses at which it failed before come as well.

    Returns:
        How many there were: at most BATCH_APPEARANCES, 0 where none is left.
    """
    known.forget_erased(session)
    bounds = {"release_id": known.release_id, "limit": BATCH_APPEARANCES}
    rows = read_rows(session, _WAITING, _ROW, bounds)
    if not len(rows) and suspects:
        rows = read_rows(session, _WAITING_ALONE, _ROW, bounds)
    if len(rows):
        analyses = np.unique(rows["analysis_id"]).tolist()
        begin(analyses)
        identify_attempts.succeed(session, analyses)
        said = active_corrections(session, known.release_id, rows["media_id"])
        place(session, known, rows, said)
        settle(session, known, said)
    retire_superseded(session, known)
    count_people(session)
    if len(rows):
        identify_attempts.end(session, known.release_id)
    return len(rows)


def catch_up(session: Session, known: Gallery) -> None:
    """Identify everything that is pending if files were analysed again; the caller holds the lock.

    Whoever changes people by hand does so after their new appearances have taken the place of the old ones.
    """
    statement = text("""SELECT EXISTS (SELECT FROM analysis WHERE release_id = :release_id AND state = 'done'
                        AND NOT is_current AND NOT retired)""")
    while session.execute(statement, {"release_id": known.release_id}).scalar_one():
        if not identify_pending(session, known, suspects=False):
            return


def show_release(session: Session, wanted: str) -> str:
    """Make a release the one that the views show, with what humans said while they showed another; returns its name.

    Args:
        session: an open session that holds no lock.
        wanted: number or name of the release.

    Raises:
        UsageError: none or several are called so.
    """
    lock_people(session)
    name = activate(session, wanted)
    known = Gallery(active_release(session)[0])
    catch_up(session, known)
    settle(session, known, replay(read_corrections(session, known.release_id)))
    count_people(session)
    return name


def active_corrections(session: Session, release_id: int, media: Ids) -> ReplayedCorrections | None:
    """Give what humans said, or None where it has nothing to do with some files."""
    return replay(read_corrections(session, release_id)) if has_anchors(session, media) else None


def settle(session: Session, known: Gallery, said: ReplayedCorrections | None) -> None:
    """Let who contradicts what humans said find another person, and the names go where they belong."""
    if said is None:
        return
    person = people_of(session, said.appearance)
    leaving = find_violations(said, person)
    if len(leaving):
        place(session, known, read_these(session, leaving), said)
        person = people_of(session, said.appearance)
    store_names(session, known.release_id, said, person)


def retire_superseded(session: Session, known: Gallery) -> None:
    """Let appearances of earlier analyses no longer count, once those of the current one have their people."""
    superseded = session.execute(_SUPERSEDED, {"release_id": known.release_id}).all()
    if not superseded:
        return
    analyses = [row.analysis_id for row in superseded]
    session.execute(text("UPDATE analysis SET retired = true WHERE analysis_id = ANY(:ids)"), {"ids": analyses})
    people = session.scalars(
        text("SELECT DISTINCT person_id FROM appearance WHERE analysis_id = ANY(:ids) AND person_id IS NOT NULL"),
        {"ids": analyses},
    ).all()
    refresh_people(session, np.array(people, np.int64))
    said = active_corrections(session, known.release_id, np.array([row.media_id for row in superseded], np.int64))
    settle(session, known, said)
