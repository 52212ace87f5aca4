"""Identify stage: gives stored appearances their people, batch by batch, in one worker at a time."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.arrays import read_rows
from db.schema.totals import count_people
from worker.errors import FacetError, described
from worker.identity.carry_over import carried_people
from worker.identity.corrections.anchors import has_anchors, read_corrections
from worker.identity.corrections.conflicts import find_violations
from worker.identity.corrections.name_assignment import people_of, store_names
from worker.identity.corrections.replay import replay
from worker.identity.gallery import Gallery, lock_people, refresh_people, try_lock_people
from worker.identity.placing import move_appearances, place
from worker.identity.stored_appearances import COLUMN_TYPES, STORED_COLUMNS, StoredAppearances, read_stored_appearances
from worker.ledger import identify_attempts
from worker.ledger.identify_attempts import MAX_IDENTIFY_ATTEMPTS
from worker.ledger.releases import activate_release, active_release, find_active
from worker.storage.database import is_unreachable
from worker.storage.transactions import Result, retry_conflicts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session, sessionmaker

    from db.bulk.arrays import ColumnType
    from worker.identity.corrections.replay import ReplayedCorrections
    from worker.ledger.releases import Switch

    Ids = NDArray[np.int64]

logger = logging.getLogger(__name__)

BATCH_APPEARANCES = 2000  # per transaction; a video with more of them comes in several, in order of time
PAUSE_FACTOR = 10  # identifying takes at most a tenth of a worker's time while it analyses
MIN_PAUSE_SECONDS = 2.0

_PENDING_TYPES: Mapping[str, ColumnType] = {**COLUMN_TYPES, "analysis_id": "bigint"}
_PENDING = f"""
    SELECT {STORED_COLUMNS}, s.analysis_id FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
    WHERE s.trunk_id = %(trunk_id)s AND s.person_id IS NULL AND s.embedding IS NOT NULL AND a.is_current
      AND NOT EXISTS (SELECT FROM facet.identify_failure i
                      WHERE i.analysis_id = s.analysis_id AND i.trunk_id = s.trunk_id)
    ORDER BY s.appearance_id LIMIT %(limit)s"""  # noqa: S608 - constant columns
# Of the analyses at which identification failed before, one at a time, and fewer of its appearances at each attempt.
_PENDING_SUSPECT = f"""
    SELECT {STORED_COLUMNS}, s.analysis_id
    FROM (
        SELECT i.analysis_id, %(limit)s >> i.attempts AS few
        FROM facet.identify_failure i JOIN facet.analysis a USING (analysis_id)
        WHERE i.trunk_id = %(trunk_id)s AND i.attempts < {MAX_IDENTIFY_ATTEMPTS} AND a.is_current
          AND EXISTS (SELECT FROM facet.appearance w WHERE w.analysis_id = i.analysis_id
                      AND w.trunk_id = %(trunk_id)s AND w.person_id IS NULL AND w.embedding IS NOT NULL)
        ORDER BY i.attempts, i.analysis_id LIMIT 1) alone
    CROSS JOIN LATERAL (
        SELECT * FROM facet.appearance t
        WHERE t.analysis_id = alone.analysis_id AND t.trunk_id = %(trunk_id)s
          AND t.person_id IS NULL AND t.embedding IS NOT NULL
        ORDER BY t.ordinal LIMIT alone.few) s
    ORDER BY s.appearance_id"""  # noqa: S608 - constant columns
# Analyses whose file has another current one by now; they count until the appearances of that one have their people,
# under every trunk.
# Locked ones are left for the next time: this transaction has changed people, so it must not wait for an analysis.
_SUPERSEDED = text("""
    SELECT a.analysis_id, a.media_id FROM analysis a
    WHERE a.finder_id = (SELECT parent_id FROM layer WHERE layer_id = :trunk_id)
      AND a.state = 'done' AND NOT a.is_current AND NOT a.retired AND NOT EXISTS (
        SELECT FROM analysis b JOIN appearance s USING (analysis_id)
        WHERE b.media_id = a.media_id AND b.finder_id = a.finder_id AND b.is_current
          AND s.person_id IS NULL AND s.embedding IS NOT NULL)
    FOR NO KEY UPDATE OF a SKIP LOCKED""")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Appearances that are identified in one transaction."""

    appearances: StoredAppearances
    """N without a person."""
    analyses: list[int]
    """Analyses that they belong to."""


class Identifier:
    """Identifies pending appearances: a batch now and then while work goes on, and all of them at its end."""

    def __init__(self, sessions: sessionmaker[Session], trunk_id: int) -> None:
        self._sessions = sessions
        self._gallery = Gallery(trunk_id)
        self._next_at = time.monotonic() + MIN_PAUSE_SECONDS

    def tick(self) -> None:
        """Identify one batch, unless the last one was a moment ago or another worker is identifying."""
        started = time.monotonic()
        if started < self._next_at:
            return
        try:
            identify_once(self._sessions, self._gallery, try_lock_people)
        except Exception as err:
            if is_unreachable(err) or isinstance(err, FacetError):
                raise
            # Of no single analysis: the units in flight are not at fault, and `finish` meets the error again.
            logger.exception("identification failed", extra={"action": "identify_failed"})
        spent = time.monotonic() - started
        self._next_at = time.monotonic() + max(MIN_PAUSE_SECONDS, PAUSE_FACTOR * spent)

    def finish(self) -> int:
        """Identify all pending appearances; returns how many got a person."""
        return identify_all(self._sessions, self._gallery)


def identify_all(sessions: sessionmaker[Session], gallery: Gallery) -> int:
    """Identify all pending appearances, a transaction for each batch; returns how many got a person."""
    total = 0
    while (done := identify_once(sessions, gallery, lock_people)) != 0:
        total += done or 0
    return total


def identify_once(
    sessions: sessionmaker[Session], gallery: Gallery, lock: Callable[[Session], bool | None]
) -> int | None:
    """Identify one batch in a transaction of its own.

    Args:
        sessions: of the database.
        gallery: the people of the trunk.
        lock: takes the lock of people; where it returns False, nothing is done.

    Returns:
        Number of appearances in the batch; None where it failed and the failure was counted.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is away.
        RetryableError: every attempt ended in a deadlock.
    """
    trunk_id = gallery.trunk_id
    begun: list[int] = []

    def begin(analyses: Collection[int]) -> None:
        begun.extend(analyses)
        identify_attempts.begin_attempt(sessions, trunk_id, analyses)

    def identify(session: Session) -> int:
        if lock(session) is False:
            return 0
        if not begun and identify_attempts.is_broken_off(session, trunk_id):
            identify_attempts.count_failure(
                sessions, trunk_id, "worker_died: a worker died or stalled while it was at it"
            )
        return identify_pending(session, gallery, begin)

    try:
        return change_people(sessions, "identify", gallery, identify)
    except Exception as err:
        if is_unreachable(err) or isinstance(err, FacetError):
            raise
        error = described(err)
        if not begun or not identify_attempts.count_failure(sessions, trunk_id, error):
            raise
        logger.warning("identification failed and is tried again: %s", error, extra={"action": "identify_failed"})
        return None


def change_people(
    sessions: sessionmaker[Session], kind: str, gallery: Gallery, work: Callable[[Session], Result]
) -> Result:
    """Run a transaction that changes people, again after a conflict; empty the gallery where it fails.

    Args:
        sessions: of the database.
        kind: names the transaction in logs and metrics.
        gallery: after a failure it may hold people that were never committed.
        work: runs in the transaction.
    """

    def attempt() -> Result:
        try:
            with sessions.begin() as session:
                return work(session)
        except BaseException:
            gallery.forget()
            raise

    return retry_conflicts(kind, attempt)


def identify_pending(
    session: Session,
    gallery: Gallery,
    begin: Callable[[Collection[int]], None] = lambda _: None,
    *,
    suspects: bool = True,
) -> int:
    """Place the oldest appearances without a person; the caller holds the lock of people.

    Args:
        session: an open session.
        gallery: the people of the trunk.
        begin: called with the analyses of the batch before it is placed.
        suspects: whether analyses at which identification failed before are included.

    Returns:
        Size of the batch: at most BATCH_APPEARANCES, 0 where none is pending.
    """
    gallery.forget_erased(session)
    batch = _read_batch(session, gallery.trunk_id, suspects=suspects)
    appearances = batch.appearances
    if len(appearances):
        begin(batch.analyses)
        identify_attempts.succeed(session, gallery.trunk_id, batch.analyses)
        corrections = corrections_in(session, gallery.trunk_id, appearances.media)
        carried = carried_people(session, gallery.trunk_id, appearances)
        place(session, gallery, appearances, corrections, carried)
        enforce(session, gallery, corrections)
    retire_superseded(session, gallery)
    count_people(session)
    if len(appearances):
        identify_attempts.end(session, gallery.trunk_id)
    return len(appearances)


def _read_batch(session: Session, trunk_id: int, *, suspects: bool) -> _Batch:
    bounds = {"trunk_id": trunk_id, "limit": BATCH_APPEARANCES}
    rows = read_rows(session, _PENDING, _PENDING_TYPES, bounds)
    if not len(rows) and suspects:
        rows = read_rows(session, _PENDING_SUSPECT, _PENDING_TYPES, bounds)
    return _Batch(StoredAppearances.from_rows(rows), np.unique(rows["analysis_id"]).tolist())


def catch_up(session: Session, gallery: Gallery) -> None:
    """Identify all pending appearances if files were analysed again; the caller holds the lock of people.

    A correction is applied after the new appearances of such files have taken the place of the old ones.
    """
    statement = text("""
        SELECT EXISTS (SELECT FROM analysis
                       WHERE finder_id = (SELECT parent_id FROM layer WHERE layer_id = :trunk_id)
                         AND state = 'done' AND NOT is_current AND NOT retired)""")
    while session.execute(statement, {"trunk_id": gallery.trunk_id}).scalar_one():
        if not identify_pending(session, gallery, suspects=False):
            return


def show_release(session: Session, wanted: str, switch: Switch | None = None) -> str:
    """Activate a release for the views, with the corrections made while another one was active; returns its name.

    Args:
        session: an open session that holds no lock.
        wanted: number, name or alias of the release.
        switch: why; the history of releases keeps it.

    Raises:
        UsageError: no release has this number or name, or several have the name.
    """
    lock_people(session)
    before = find_active(session)
    name = activate_release(session, wanted, switch)
    gallery = Gallery(active_release(session)[0].trunk_id)
    catch_up(session, gallery)
    corrections = replay(read_corrections(session, gallery.trunk_id))
    enforce(session, gallery, corrections, None if before is None else before.trunk_id)
    count_people(session)
    return name


def follow_corrections(session: Session, gallery: Gallery) -> None:
    """Apply the corrections that were made under the trunk of the views since; the caller holds the lock of people."""
    enforce(session, gallery, replay(read_corrections(session, gallery.trunk_id)))
    count_people(session)


def corrections_in(session: Session, trunk_id: int, media: Ids) -> ReplayedCorrections | None:
    """Return the active corrections, or None where none has an anchor in some files."""
    return replay(read_corrections(session, trunk_id)) if has_anchors(session, media) else None


def enforce(
    session: Session, gallery: Gallery, corrections: ReplayedCorrections | None, source: int | None = None
) -> None:
    """Reassign appearances that violate a correction, then restore names.

    A person has one name under all trunks: it follows the appearances that the views show.

    Args:
        session: an open session.
        gallery: the people of the trunk.
        corrections: the active corrections; None where no correction is concerned.
        source: the trunk under which the corrections were made, so that they lead to the same people here; None for
            that of the views.
    """
    if corrections is None:
        return
    active = find_active(session)
    shown = None if active is None else active.trunk_id
    source = shown if source is None else source
    person = people_of(session, corrections.appearance)
    violating = find_violations(corrections, person)
    if len(violating) and source not in (None, gallery.trunk_id):
        _follow(session, gallery.trunk_id, source, _with_groups(corrections, violating))
        person = people_of(session, corrections.appearance)
        violating = find_violations(corrections, person)
    if len(violating):
        place(session, gallery, read_stored_appearances(session, violating), corrections)
        person = people_of(session, corrections.appearance)
    if shown == gallery.trunk_id:
        store_names(session, corrections, person)


def _with_groups(corrections: ReplayedCorrections, appearances: Ids) -> Ids:
    """Return appearances, all that corrections make one person with them, and all that they separate from these."""
    groups = corrections.group[np.isin(corrections.appearance, appearances)]
    apart = corrections.cannot_link[np.isin(corrections.cannot_link, groups).any(axis=1)]
    groups = np.concatenate([groups, apart.ravel()])
    members: Ids = corrections.appearance[np.isin(corrections.group, groups)]
    return members


def _follow(session: Session, trunk_id: int, source: int | None, appearances: Ids) -> None:
    """Assign to appearances the people that they have at their places under another trunk."""
    stored = read_stored_appearances(session, appearances)
    people = carried_people(session, trunk_id, stored, source)
    moved = (people >= 0) & (stored.person >= 0) & (people != stored.person)
    if moved.any():
        move_appearances(session, stored.appearance[moved], people[moved])
        refresh_people(session, trunk_id, np.concatenate([stored.person[moved], people[moved]]))


def retire_superseded(session: Session, gallery: Gallery) -> None:
    """Retire earlier analyses of a file, once the appearances of its current one have their people."""
    superseded = session.execute(_SUPERSEDED, {"trunk_id": gallery.trunk_id}).all()
    if not superseded:
        return
    analyses = [row.analysis_id for row in superseded]
    session.execute(text("UPDATE analysis SET retired = true WHERE analysis_id = ANY(:ids)"), {"ids": analyses})
    lost = text("""SELECT trunk_id, array_agg(DISTINCT person_id) AS people FROM appearance
                   WHERE analysis_id = ANY(:ids) AND person_id IS NOT NULL GROUP BY trunk_id ORDER BY trunk_id""")
    for row in session.execute(lost, {"ids": analyses}).all():
        refresh_people(session, row.trunk_id, np.array(row.people, np.int64))
    media = np.array([row.media_id for row in superseded], np.int64)
    enforce(session, gallery, corrections_in(session, gallery.trunk_id, media))
