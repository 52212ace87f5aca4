"""Which units are due, and which this host can read: the one place where these conditions are written.

A *fresh* unit was never leased, or was returned untouched. A *suspect* was leased before: its attempt failed, or its
worker died. A fresh unit is due at once, a suspect after a pause or when its lease has run out. No unit is due that
only paused jobs wait for: most of these are *shelved* (``worker.ledger.submission.shelving``) and in no index of due
units, and the conditions leave out the others. Conditions read a row of ``unit`` as ``u``.

A suspect *rests* while its ``not_before`` is set, and has an index of its own. Workers wake it when its pause is over
(``wake_suspects``), which clears the column: however many rest, a lease reads none of them.

Batches of reprocess jobs have an index of their own: workers of any release take them, after the units of analyses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.status.paused import BATCH_WANTED, FIRST_WANTED, WANTED

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

# FRESH, SUSPECT, RESTED and BATCH contain the conditions of the partial indexes of ``unit``; without them no index
# would be used.
FRESH = "u.state = 'pending' AND u.attempts = 0 AND u.stage <> 'reprocess' AND NOT u.shelved"
EXPIRED = "u.state = 'leased' AND u.lease_until < now()"  # its worker died, or was cut off
AWAKE = "u.state IN ('pending', 'leased') AND u.attempts > 0 AND u.not_before IS NULL"
SUSPECT = f"{AWAKE} AND (u.state = 'pending' OR ({EXPIRED}))"
RESTING = "u.state = 'pending' AND u.attempts > 0 AND u.stage <> 'reprocess' AND u.not_before IS NOT NULL"
RESTED = f"{RESTING} AND u.not_before <= now()"  # a suspect whose pause is over, and that no worker has woken yet
BATCH = f"""u.stage = 'reprocess' AND u.state IN ('pending', 'leased') AND NOT u.shelved
    AND ((u.state = 'pending' AND coalesce(u.not_before, '-infinity') <= now()) OR ({EXPIRED}))"""
SUSPECTS_PER_WAKING = 300  # of a release, before a suspect is leased: some 10 ms

UNPLANNED = """j.kind = 'reprocess' AND j.finished_at IS NULL AND j.cancelled_at IS NULL AND j.paused_at IS NULL
    AND NOT EXISTS (SELECT FROM unit AS b WHERE b.job_id = j.job_id AND b.state IN ('pending', 'leased'))
    AND NOT EXISTS (SELECT FROM job_item AS i JOIN analysis AS w USING (analysis_id)
                    WHERE i.job_id = j.job_id AND w.state = 'pending')"""
"""Condition on a job ``j``: it reprocesses, and its next batches have to be planned."""

FILE_REACHABLE = """NOT EXISTS (
    SELECT FROM media_file AS f, unnest(cast(:unreachable AS text[])) AS place
    WHERE f.media_id = a.media_id AND (f.location = place OR starts_with(f.location, rtrim(place, '/') || '/')))"""
"""Condition on an analysis ``a``: its file lies in none of the places ``:unreachable``."""
READABLE = f"(u.stage = 'finish' OR {FILE_REACHABLE})"
"""Condition on a unit ``u`` of an analysis ``a``; a finish unit needs no file."""

MINE = """(cast(:job_id AS bigint) IS NULL OR EXISTS (
    SELECT FROM job_item AS mine WHERE mine.analysis_id = u.analysis_id AND mine.job_id = :job_id))"""
"""Condition on a unit ``u``: its file is of the job ``:job_id``; NULL for all jobs."""

# Each part reads the first rows of its index, however many units are done.
_COUNT = text(f"""
    SELECT count(*) FROM (
        (SELECT FROM unit AS u WHERE {FRESH} AND {FIRST_WANTED} LIMIT :limit)
        UNION ALL
        (SELECT FROM unit AS u WHERE {SUSPECT} AND u.stage <> 'reprocess' AND {FIRST_WANTED} LIMIT :limit)
        UNION ALL
        (SELECT FROM unit AS u WHERE {RESTED} AND {FIRST_WANTED} LIMIT :limit)
        UNION ALL
        (SELECT FROM unit AS u WHERE {BATCH} AND {BATCH_WANTED} LIMIT :limit)
        UNION ALL
        (SELECT FROM job AS j WHERE {UNPLANNED} LIMIT :limit)
        LIMIT :limit) due""")  # noqa: S608 - the constants above
_ANY_FRESH = text(f"""
    SELECT EXISTS (SELECT FROM unit AS u WHERE u.release_id = :release_id AND {FRESH} AND {FIRST_WANTED})""")  # noqa: S608
_ANY_RESTED = text(f"""
    SELECT EXISTS (SELECT FROM unit AS u JOIN analysis AS a USING (analysis_id)
                   WHERE u.release_id = :release_id AND {AWAKE} AND u.state = 'pending' AND {READABLE}
                     AND {FIRST_WANTED})
        OR EXISTS (SELECT FROM unit AS u JOIN analysis AS a USING (analysis_id)
                   WHERE u.release_id = :release_id AND {RESTED} AND {READABLE} AND {FIRST_WANTED})""")  # noqa: S608
# Release by release: the index begins with it.
_WAKE = text(f"""
    UPDATE unit SET not_before = NULL
    FROM release AS r CROSS JOIN LATERAL (
        SELECT u.unit_id FROM unit AS u WHERE u.release_id = r.release_id AND {RESTED}
        ORDER BY u.not_before LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) AS rested
    WHERE unit.unit_id = rested.unit_id""")  # noqa: S608
_ANY_BATCH = text(f"""
    SELECT EXISTS (SELECT FROM unit AS u WHERE {BATCH} AND {BATCH_WANTED})
        OR EXISTS (SELECT FROM job AS j WHERE {UNPLANNED})""")  # noqa: S608
# The first unit of each release: two rows of an index each, however many wait, and the few that no worker has woken.
_DUE_RELEASES = text(f"""
    SELECT r.release_id, r.active, w.priority
    FROM release AS r
    CROSS JOIN LATERAL (
        SELECT max(first.priority) AS priority
        FROM (
            (SELECT u.priority FROM unit AS u WHERE u.release_id = r.release_id AND {FRESH} AND {FIRST_WANTED}
             ORDER BY u.priority DESC, u.turn LIMIT 1)
            UNION ALL
            (SELECT u.priority FROM unit AS u WHERE u.release_id = r.release_id AND {SUSPECT}
              AND u.stage <> 'reprocess' AND {FIRST_WANTED}
             ORDER BY u.priority DESC, u.turn LIMIT 1)
            UNION ALL
            (SELECT max(u.priority) FROM unit AS u WHERE u.release_id = r.release_id AND {RESTED} AND {FIRST_WANTED})
        ) AS first
    ) AS w
    WHERE r.retired_at IS NULL AND w.priority IS NOT NULL
    ORDER BY r.release_id""")  # noqa: S608 - the constants above
_OPEN = text(f"""
    SELECT count(*) FROM unit AS u JOIN analysis AS a USING (analysis_id)
    WHERE u.state IN ('pending', 'leased') AND {READABLE} AND {WANTED}
      AND a.analysis_id IN (SELECT analysis_id FROM job_item WHERE job_id = :job_id)""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class DueRelease:
    """A release that has a unit that is due."""

    release_id: int
    active: bool
    priority: int
    """The highest of its units."""


def read_due_releases(session: Session) -> list[DueRelease]:
    """Return the releases that have units that are due, by number; retired ones have none."""
    return [DueRelease(*row) for row in session.execute(_DUE_RELEASES)]


def wake_suspects(session: Session) -> None:
    """Wake the suspects whose pause is over, of all releases: they may be leased.

    Skips locked rows, so it waits for no other transaction.
    """
    session.execute(_WAKE, {"limit": SUSPECTS_PER_WAKING})


def count_due(session: Session, limit: int) -> int:
    """Count the units of all releases that are due, and the jobs to be planned, up to a limit."""
    return int(session.execute(_COUNT, {"limit": limit}).scalar_one())


def has_fresh(session: Session, release_id: int) -> bool:
    """Whether a fresh unit of a release waits, on whichever host its file lies."""
    return bool(session.execute(_ANY_FRESH, {"release_id": release_id}).scalar_one())


def has_rested_suspect(session: Session, release_id: int, unreachable: Collection[str] = ()) -> bool:
    """Whether a suspect whose pause is over waits, outside of the places that this host cannot read."""
    parameters = {"release_id": release_id, "unreachable": list(unreachable)}
    return bool(session.execute(_ANY_RESTED, parameters).scalar_one())


def has_batch(session: Session) -> bool:
    """Whether a batch of a reprocess job is due, or one has to be planned."""
    return bool(session.execute(_ANY_BATCH).scalar_one())


def count_open(session: Session, job_id: int, unreachable: Collection[str] = ()) -> int:
    """Count the open units of a job's files, without paused ones and those that this host cannot read."""
    return int(session.execute(_OPEN, {"job_id": job_id, "unreachable": list(unreachable)}).scalar_one())
