"""Facts about the progress of work: workers, units that do not progress, and reasons of failed files.

Functions take a session and never commit. Each reads the few open rows of an index, so that they may be called often,
however much is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.status.jobs import FAILED
from db.status.paused import BATCH_WANTED, WANTED

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

# The first analysis that has not ended is the oldest, except for one that was cancelled and requeued.
_HEALTH = text(f"""
SELECT (SELECT count(*) FROM unit AS u
        WHERE state = 'pending' AND attempts = 0 AND stage <> 'reprocess' AND NOT shelved AND {WANTED})
       + (SELECT count(*) FROM unit AS u
          WHERE state IN ('pending', 'leased') AND stage = 'reprocess' AND NOT shelved
            AND state = 'pending' AND attempts = 0 AND {BATCH_WANTED}) AS fresh,
       tried.*,
       (SELECT cast(extract(epoch FROM now() - submitted_at) AS float8) FROM analysis
        WHERE state = 'pending' ORDER BY analysis_id LIMIT 1) AS oldest_seconds,
       (SELECT cast(extract(epoch FROM now() - max(finished_at)) AS float8) FROM unit) AS silent_seconds
FROM (
    SELECT count(*) FILTER (WHERE state = 'pending') AS suspects,
           count(*) FILTER (WHERE state = 'leased' AND lease_until >= now()) AS in_flight,
           count(*) FILTER (WHERE state = 'leased' AND lease_until < now()) AS abandoned,
           count(DISTINCT owner) FILTER (WHERE state = 'leased' AND lease_until >= now()) AS workers
    FROM unit
    WHERE state IN ('pending', 'leased') AND attempts > 0
) AS tried
""")  # noqa: S608 - constants

_SUMS = text("""
SELECT CASE WHEN state = 'pending' AND attempts > 0 THEN 'suspect'
            WHEN state = 'leased' AND lease_until < now() THEN 'abandoned'
            ELSE state END AS state,
       count(*) AS units, sum(frame_count) AS frames,
       coalesce(sum(face_count) FILTER (WHERE stage <> 'reprocess'), 0) AS faces, sum(attempts) AS attempts,
       count(DISTINCT owner) FILTER (WHERE state = 'leased' AND lease_until >= now()) AS workers,
       (SELECT cast(extract(epoch FROM now() - submitted_at) AS float8) FROM analysis
        WHERE state = 'pending' ORDER BY analysis_id LIMIT 1) AS oldest_seconds
FROM unit
GROUP BY 1
""")

UNIT_CONDITIONS = ("pending", "suspect", "leased", "abandoned", "done", "rejected", "quarantined", "cancelled")

# The first of each index, release by release; without the order, PostgreSQL would read all that waits.
_WAITING_RELEASES = text("""
SELECT r.name, r.code_version
FROM release AS r
WHERE r.retired_at IS NULL AND coalesce(
    (
        SELECT true FROM unit AS u
        WHERE u.release_id = r.release_id AND u.state = 'pending' AND u.attempts = 0 AND u.stage <> 'reprocess'
          AND NOT u.shelved
        ORDER BY u.priority DESC, u.turn LIMIT 1
    ),
    (
        SELECT true FROM unit AS u
        WHERE u.release_id = r.release_id AND u.state IN ('pending', 'leased') AND u.attempts > 0
          AND u.not_before IS NULL AND u.stage <> 'reprocess'
        ORDER BY u.priority DESC, u.turn LIMIT 1
    ),
    (
        SELECT true FROM unit AS u
        WHERE u.release_id = r.release_id AND u.state = 'pending' AND u.attempts > 0 AND u.stage <> 'reprocess'
          AND u.not_before IS NOT NULL
        ORDER BY u.not_before LIMIT 1
    )
)
ORDER BY r.release_id
""")

_AWAY = text("""
SELECT DISTINCT last_error FROM unit WHERE state = 'pending' AND last_error LIKE 'away: %' ORDER BY 1
""")

_UNIDENTIFIED = text("""
SELECT count(*) OVER () AS files, uri, error
FROM identify_failure JOIN release USING (trunk_id) JOIN analysis USING (analysis_id) JOIN media_file USING (media_id)
WHERE attempts >= :attempts AND is_current AND active
ORDER BY analysis_id LIMIT 1
""")

_REASONS = text(f"""
SELECT split_part(reason, ':', 1) AS code, count(DISTINCT media_id) AS files, min(finished_at) AS first_at,
       max(finished_at) AS last_at, min(reason) AS example
FROM ({FAILED}) AS failed
WHERE cast(:job_id AS bigint) IS NULL OR job_id = :job_id
GROUP BY code
ORDER BY files DESC, code
LIMIT :limit
""")  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHealth:
    """The open units of all jobs, and their workers."""

    fresh: int
    """Units that no worker began."""
    suspects: int
    """Units that failed and wait for another attempt, alone."""
    in_flight: int
    """Units under a lease."""
    abandoned: int
    """Units whose lease expired: their worker died or lost its connection."""
    workers: int
    """Worker processes that hold a lease."""
    oldest_seconds: float | None
    """Age of the oldest file that has not ended; None where all have."""
    silent_seconds: float | None
    """Time since a unit ended; None before the first one."""

    @property
    def waiting(self) -> int:
        """Units that a worker could lease, now or after their pause."""
        return self.fresh + self.suspects + self.abandoned


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSums:
    """All units."""

    units: dict[str, int]
    """By state; suspects among waiting units and abandoned among leased ones are states of their own."""
    frames: int
    faces: int
    """Detected faces; reprocessed ones are not counted again."""
    attempts: int
    workers: int
    """Worker processes that hold a lease."""
    oldest_seconds: float | None
    """Age of the oldest file that has not ended; None where all have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Files that failed for the same reason."""

    code: str
    files: int
    first_at: datetime
    last_at: datetime
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unidentified:
    """Files whose appearances have no people, because identification failed."""

    files: int
    uri: str
    """Error of the first of them."""
    error: str


def read_health(session: Session) -> LedgerHealth:
    """Return the state of the ledger.

    Args:
        session: an open session.
    """
    return LedgerHealth(**session.execute(_HEALTH).mappings().one())


def sum_ledger(session: Session) -> LedgerSums:
    """Return the sums over all units, in one pass over them: a second or so for ten million.

    Args:
        session: an open session.
    """
    rows = session.execute(_SUMS).all()
    counted = {row.state: int(row.units) for row in rows}
    return LedgerSums(
        units={state: counted.get(state, 0) for state in UNIT_CONDITIONS},
        frames=sum(int(row.frames) for row in rows),
        faces=sum(int(row.faces) for row in rows),
        attempts=sum(int(row.attempts) for row in rows),
        workers=sum(int(row.workers) for row in rows),
        oldest_seconds=rows[0].oldest_seconds if rows else None,
    )


def read_waiting_releases(session: Session) -> list[tuple[str, str]]:
    """Return name and version of the program of each release that has files waiting.

    Args:
        session: an open session.
    """
    return [(str(row.name), str(row.code_version)) for row in session.execute(_WAITING_RELEASES)]


def read_away(session: Session) -> list[str]:
    """Return the errors of workers for unreachable files that no other worker has taken since.

    Args:
        session: an open session.
    """
    return [str(error).removeprefix("away: ") for error in session.scalars(_AWAY)]


def read_unidentified(session: Session, attempts: int) -> list[Unidentified]:
    """Return the files of the active release whose identification failed that often, as one row or none.

    Args:
        session: an open session.
        attempts: from how many on a file is passed over.
    """
    return [Unidentified(**row) for row in session.execute(_UNIDENTIFIED, {"attempts": attempts}).mappings()]


def read_reasons(session: Session, *, job_id: int | None = None, limit: int = 5) -> list[Reason]:
    """Return the reasons of rejected and quarantined files, the most frequent first.

    Args:
        session: an open session.
        job_id: only files of this job.
        limit: most rows.
    """
    rows = session.execute(_REASONS, {"job_id": job_id, "limit": limit})
    return [Reason(**row) for row in rows.mappings()]
