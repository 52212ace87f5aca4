"""Batches of reprocess jobs: units without a file, leased by workers of any release.

A batch has the token, attempts and heartbeats of other units (``worker.ledger.units``). Its job decides its release, so
a worker loads what the batch needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from db.status.paused import BATCH_WANTED
from worker.ledger.due import BATCH, EXPIRED
from worker.ledger.units import HeldUnit

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

    from worker.ledger.units import Lease

Way = Literal["reading", "embedding", "crops", "file", "appearances", "joining", "people"]
"""How the rows of a batch are computed: from stored scores, embeddings or crops; ``file`` cuts crops that are gone
again. Then from the rows of faces: answers of appearances, appearances of a new trunk, and their people."""
Speed = Literal["low", "normal", "full"]

SHARES: dict[Speed, float] = {"low": 0.25, "normal": 0.5, "full": 1.0}
"""The share of a worker's time that a reprocess job takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(HeldUnit):
    """Faces, appearances or analyses whose rows under a release are lacking."""

    job_id: int
    release_id: int
    way: Way
    tasks: tuple[str, ...]
    """Tasks of heads whose rows are lacking, and `worker.reprocess.target.IDENTITY` for the embedding."""
    first_id: int
    last_id: int
    """The range of their numbers."""
    ids: tuple[int, ...] | None
    """Their numbers, where the job is limited to some; None for all in the range."""
    face_count: int
    """How many faces were lacking when the batch was planned."""
    speed: Speed

    @property
    def share(self) -> float:
        """The share of a worker's time that its job takes."""
        return SHARES[self.speed]


_LEASE = text(f"""
    WITH due AS (
        SELECT u.unit_id FROM unit u JOIN release r USING (release_id)
        WHERE {BATCH} AND {BATCH_WANTED} AND r.retired_at IS NULL AND u.attempts < :attempts
          AND u.unit_id <> ALL (cast(:held AS bigint[]))
          AND u.release_id <> ALL (cast(:skipped AS bigint[]))
          AND (cast(:jobs AS bigint[]) IS NULL OR u.job_id = ANY (cast(:jobs AS bigint[])))
        ORDER BY u.priority DESC, u.turn, u.unit_id LIMIT 1 FOR UPDATE OF u SKIP LOCKED)
    UPDATE unit u
    SET state = 'leased', owner = :owner, token = token + 1, attempts = attempts + 1, not_before = NULL,
        lease_until = now() + make_interval(secs => :seconds), started_at = now()
    FROM due, job j
    WHERE u.unit_id = due.unit_id AND j.job_id = u.job_id
    RETURNING u.unit_id, u.token, u.attempts, u.job_id, u.release_id, u.way, coalesce(u.tasks, '{{}}') AS tasks,
              u.first_id, u.last_id, u.ids, u.face_count, j.speed""")  # noqa: S608 - constants

_EXHAUSTED = text(f"""
    WITH given_up AS (
        SELECT unit_id FROM unit u
        WHERE u.stage = 'reprocess' AND u.state IN ('pending', 'leased') AND NOT u.shelved AND {EXPIRED}
          AND u.attempts >= :max_attempts
        FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE unit u SET state = 'quarantined', finished_at = now(),
        last_error = coalesce(last_error, 'worker_died: ' || attempts || ' workers died or stalled while they held it')
    FROM given_up WHERE u.unit_id = given_up.unit_id RETURNING 1""")  # noqa: S608 - a constant

_CANCEL = text("""
    UPDATE unit SET state = 'cancelled', token = token + 1, owner = NULL, lease_until = NULL, last_error = :reason,
        attempts = attempts - (was = 'leased')::integer, shelved = false
    FROM (SELECT unit_id, state AS was FROM unit
          WHERE job_id = :job_id AND state IN ('pending', 'leased') FOR NO KEY UPDATE SKIP LOCKED) AS open
    WHERE unit.unit_id = open.unit_id RETURNING was = 'leased' AS was_leased""")
_LEFT = text("SELECT count(*) FROM unit WHERE job_id = :job_id AND state IN ('pending', 'leased')")


def lease_batch(
    session: Session,
    lease: Lease,
    *,
    held: Collection[int] = (),
    jobs: Collection[int] | None = None,
    skipped: Collection[int] = (),
) -> Batch | None:
    """Lease the first batch that is due; a suspect only while no other unit is held.

    Args:
        session: an open session.
        lease: its terms; batches of all releases are taken.
        held: units that the worker holds.
        jobs: only batches of these jobs; None for all.
        skipped: releases that this worker cannot load.
    """
    parameters = {
        "owner": lease.owner,
        "seconds": lease.seconds,
        "held": list(held),
        "attempts": 1 if held else lease.max_attempts,
        "jobs": None if jobs is None else list(jobs),
        "skipped": list(skipped),
    }
    row = session.execute(_LEASE, parameters).first()
    if row is None:
        return None
    facts = dict(row._mapping)  # noqa: SLF001 - the documented way to read a Row by name
    lists = {"tasks": tuple(row.tasks), "ids": None if row.ids is None else tuple(row.ids)}
    return Batch(**facts | lists)


def quarantine_exhausted_batches(session: Session, max_attempts: int) -> int:
    """Quarantine batches whose lease of the last allowed attempt has run out; return how many there were."""
    return len(session.execute(_EXHAUSTED, {"max_attempts": max_attempts}).all())


@dataclass(frozen=True, slots=True)
class CancelledBatches:
    """Batches of a job that were cancelled."""

    units: int
    taken_back: int
    """Of these, those that were in flight."""
    left: int
    """Batches that a worker is storing."""


def cancel_batches(session: Session, job_id: int, reason: str) -> CancelledBatches:
    """Cancel the open batches of a job, without waiting for rows that a worker has locked."""
    done = session.execute(_CANCEL, {"job_id": job_id, "reason": reason}).all()
    left = int(session.execute(_LEFT, {"job_id": job_id}).scalar_one())
    return CancelledBatches(len(done), sum(row.was_leased for row in done), left)
