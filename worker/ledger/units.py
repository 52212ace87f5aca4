"""Units of work: leasing, heartbeats, outcomes.

PostgreSQL decides; messages only wake workers. A unit is leased with ``FOR UPDATE SKIP LOCKED`` under a fencing token
that grows with every lease, so that a worker that lost its lease (paused, cut off, presumed dead) can store nothing.
A unit that already failed once is a *suspect* and is leased alone: if it kills its worker again, no other unit suffers.
All functions run in the caller's transaction and never commit.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from db.status.paused import FIRST_WANTED
from worker.errors import LeaseLostError, ReleaseRetiredError
from worker.ledger.due import AWAKE, EXPIRED, FRESH, MINE, READABLE, SUSPECT, wake_suspects
from worker.ledger.unreachable.waiting import Scope, WindowSearch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Row, TextClause
    from sqlalchemy.orm import Session

    from worker.errors import MediaUnreachable
    from worker.types import MediaKind

BACKOFF_SECONDS = 2.0  # before the second attempt; doubled for each one after it

Outcome = Literal["done", "rejected", "quarantined"]
UnitStage = Literal["analyse", "finish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldUnit:
    """A unit that this worker holds."""

    unit_id: int
    token: int
    """Fencing token; a result is stored only while the row still carries it."""
    attempts: int
    """How often the unit was leased, this time included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedUnit(HeldUnit):
    """One image, one time range of a video, or the finish of an analysis."""

    analysis_id: int
    media_id: int
    sha256: str
    location: str
    kind: MediaKind
    ordinal: int
    start_seconds: float | None
    end_seconds: float | None
    sampling_fps: float | None
    """Frames per second wanted; None for every frame."""
    is_whole: bool = False
    """It is the only unit of its analysis."""
    byte_size: int | None = None
    stamp: str | None = None
    """Of the file when it was submitted, as ``worker.storage.stamps`` makes them; None where it has to be hashed."""
    stage: UnitStage = "analyse"
    """``finish``: no range, but the joining of all faces of the analysis, which needs no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Terms of a lease: owner, release, duration, attempts, and places that are left out."""

    owner: str
    release_id: int
    seconds: float
    max_attempts: int
    unreachable: tuple[str, ...] = ()
    """Places that this host cannot read: nothing is leased from there."""
    search: WindowSearch | None = None
    """State of this worker's search among unreachable units; None to search the first window only."""
    job_id: int | None = None
    """Only units of this job's files are leased; None for those of all jobs."""


# Both statements stop at the first rows of a partial index: fresh units of the release in the order of priority and
# turn, or the few suspects.
_SUSPECT = f"{SUSPECT} AND u.attempts < :max_attempts"


def _lease_statement(due: str) -> TextClause:
    return text(f"""
    WITH due AS (
        SELECT u.unit_id FROM unit u JOIN analysis a USING (analysis_id)
        WHERE u.release_id = :release_id AND a.state = 'pending' AND {due} AND EXISTS (
              SELECT FROM release WHERE release_id = :release_id AND retired_at IS NULL)
          AND u.unit_id <> ALL (cast(:held AS bigint[])) AND u.stage = ANY (cast(:stages AS text[]))
          AND {FIRST_WANTED} AND {MINE}
        ORDER BY u.priority DESC, u.turn, u.unit_id
        LIMIT :limit FOR UPDATE OF u SKIP LOCKED)
    UPDATE unit u
    SET state = 'leased', owner = :owner, token = token + 1, attempts = attempts + 1, not_before = NULL,
        lease_until = now() + make_interval(secs => :seconds), started_at = now()
    FROM due, analysis a, media_file m
    WHERE u.unit_id = due.unit_id AND a.analysis_id = u.analysis_id AND m.media_id = a.media_id
    RETURNING u.unit_id, u.token, u.attempts, u.analysis_id, a.media_id, m.sha256, m.location, m.kind,
              m.byte_size, m.stamp, u.ordinal, u.start_seconds, u.end_seconds, CASE a.sampling WHEN 'every' THEN NULL
              ELSE split_part(a.sampling, '/', 1)::double precision END AS sampling_fps,
              CASE WHEN m.kind = 'image' THEN true WHEN u.ordinal > 0 OR u.end_seconds IS NOT NULL THEN false
              ELSE NOT EXISTS (SELECT FROM unit o WHERE o.analysis_id = u.analysis_id AND o.ordinal > 0)
              END AS is_whole, u.stage, u.priority, u.turn""")  # noqa: S608 - one of the two constants above


_LEASE_FRESH = _lease_statement(FRESH)
_LEASE_SUSPECT = _lease_statement(_SUSPECT)
_LEASE_FOUND = _lease_statement(f"{FRESH} AND u.unit_id = ANY (cast(:found AS bigint[]))")
_LEASE_READABLE_SUSPECT = _lease_statement(f"{_SUSPECT} AND {READABLE}")


_EXHAUSTED = text(f"""
    WITH given_up AS (
        SELECT unit_id FROM unit u
        WHERE u.release_id = :release_id AND {AWAKE} AND {EXPIRED} AND u.attempts >= :max_attempts
          AND u.stage <> 'reprocess'
        FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE unit u SET state = 'quarantined', finished_at = now(),
        last_error = coalesce(CASE WHEN last_error NOT LIKE 'away: %' THEN last_error END,
                              'worker_died: ' || attempts || ' workers died or stalled while they held it')
    FROM given_up WHERE u.unit_id = given_up.unit_id
    RETURNING u.analysis_id""")  # noqa: S608 - a constant


def lease_units(
    session: Session,
    lease: Lease,
    limit: int,
    *,
    suspects: bool = False,
    held: Collection[int] = (),
    stages: Collection[UnitStage] = ("analyse", "finish"),
) -> list[LeasedUnit]:
    """Lease up to ``limit`` due units in their order: fresh ones, or one suspect (``suspects``).

    Units that the worker holds (``held``) are not leased to it again: a unit that was cancelled and submitted again
    would be in flight twice.
    """
    parameters: dict[str, object] = {
        "release_id": lease.release_id,
        "job_id": lease.job_id,
        "owner": lease.owner,
        "seconds": lease.seconds,
        "limit": 1 if suspects else limit,
        "held": list(held),
        "stages": list(stages),
    }
    statement = _LEASE_SUSPECT if suspects else _LEASE_FRESH
    if lease.unreachable and suspects:
        statement = _LEASE_READABLE_SUSPECT
        parameters["unreachable"] = list(lease.unreachable)
    elif lease.unreachable:
        statement = _LEASE_FOUND
        search = lease.search or WindowSearch()
        scope = Scope(lease.release_id, lease.unreachable, lease.job_id)
        parameters["found"] = search.find(session, scope, limit=limit, held=held, stages=stages)
        if not parameters["found"]:
            return []
    if suspects:
        wake_suspects(session)
        parameters["max_attempts"] = lease.max_attempts
    rows = session.execute(statement, parameters).all()
    return [_unit(row) for row in sorted(rows, key=lambda row: (-row.priority, row.turn, row.unit_id))]


def _unit(row: Row[tuple[object, ...]]) -> LeasedUnit:
    facts = dict(row._mapping)  # noqa: SLF001 - the documented way to read a Row by name
    del facts["priority"], facts["turn"]
    return LeasedUnit(**facts)


def quarantine_exhausted(session: Session, lease: Lease) -> list[int]:
    """Quarantine units whose lease of the last allowed attempt has run out; return their analyses.

    Skips locked rows: another transaction is ending them.
    """
    parameters = {"release_id": lease.release_id, "max_attempts": lease.max_attempts}
    return [int(analysis_id) for analysis_id in session.scalars(_EXHAUSTED, parameters)]


def heartbeat(session: Session, units: Collection[HeldUnit], seconds: float) -> int:
    """Extend the leases of units; return how many were extended.

    Units are named with their tokens: an earlier lease of the same process that it no longer works on has to run out.
    Skips locked rows: waiting for the writer's row locks could deadlock.
    """
    statement = text("""
        UPDATE unit SET lease_until = now() + make_interval(secs => :seconds)
        FROM (SELECT unit_id FROM unit
              JOIN unnest(cast(:ids AS bigint[]), cast(:tokens AS bigint[])) AS held(id, own)
                  ON unit_id = held.id AND token = held.own
              WHERE state = 'leased' FOR NO KEY UPDATE OF unit SKIP LOCKED) held
        WHERE unit.unit_id = held.unit_id RETURNING 1""")
    ids, tokens = [unit.unit_id for unit in units], [unit.token for unit in units]
    return len(session.execute(statement, {"ids": ids, "tokens": tokens, "seconds": seconds}).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Counts of an attempt at a unit."""

    frames: int = 0
    """Analysed frames."""
    faces: int = 0
    """Detected faces, kept and dropped."""
    stage_seconds: str | None = None
    """JSON: time spent in each stage."""


# FOR SHARE: the release cannot be retired before the transaction that stores these rows has ended. The faces of a batch
# count as planned.
_FINISH = text("""
    UPDATE unit SET state = :state, last_error = :note, finished_at = now(), lease_until = NULL,
        frame_count = :frames, stage_seconds = cast(:seconds AS jsonb),
        face_count = CASE stage WHEN 'reprocess' THEN face_count ELSE :faces END
    WHERE unit_id = :unit_id AND token = :token AND state = 'leased' AND EXISTS (
        SELECT FROM release r WHERE r.release_id = unit.release_id AND r.retired_at IS NULL FOR SHARE)
    RETURNING 1""")
_RETIRED = text("""
    SELECT r.name FROM unit u JOIN release r USING (release_id)
    WHERE u.unit_id = :unit_id AND r.retired_at IS NOT NULL""")


def finish_unit(
    session: Session, unit: HeldUnit, outcome: Outcome, note: str | None = None, effort: Effort | None = None
) -> None:
    """Write the outcome of a unit, if this worker still holds it.

    Raises:
        LeaseLostError: another worker holds or ended the unit, or (`ReleaseRetiredError`) its release was retired;
            nothing is written.
    """
    done = effort or Effort()
    parameters = {"state": outcome, "note": note, "unit_id": unit.unit_id, "token": unit.token}
    parameters |= {"frames": done.frames, "faces": done.faces, "seconds": done.stage_seconds}
    if session.execute(_FINISH, parameters).first() is None:
        raise _lost(session, unit, "result")


def _lost(session: Session, unit: HeldUnit, what: str) -> LeaseLostError:
    """Return the error of a unit whose outcome cannot be written."""
    retired = session.execute(_RETIRED, {"unit_id": unit.unit_id}).scalar()
    if retired is not None:
        return ReleaseRetiredError(f"release {retired} of unit {unit.unit_id} was retired; its {what} is dropped")
    return LeaseLostError(f"unit {unit.unit_id} is no longer held under token {unit.token}; its {what} is dropped")


def fail_unit(session: Session, unit: HeldUnit, error: str, max_attempts: int) -> bool:
    """Requeue a failed unit with a pause, or quarantine it after the last attempt; return whether it was quarantined.

    Raises:
        LeaseLostError: another worker holds or ended the unit; nothing is written.
    """
    if unit.attempts >= max_attempts:
        finish_unit(session, unit, "quarantined", error)
        return True
    statement = text("""UPDATE unit SET state = 'pending', owner = NULL, lease_until = NULL, last_error = :error,
                        not_before = now() + make_interval(secs => :backoff)
                        WHERE unit_id = :unit_id AND token = :token AND state = 'leased' RETURNING 1""")
    backoff = BACKOFF_SECONDS * 2 ** (unit.attempts - 1)
    parameters = {"error": error, "backoff": backoff, "unit_id": unit.unit_id, "token": unit.token}
    if session.execute(statement, parameters).first() is None:
        raise _lost(session, unit, "failure")
    return False


def release_units(session: Session, units: Iterable[HeldUnit], owner: str | None = None) -> None:
    """Return units untouched (a clean stop): the attempt does not count.

    Args:
        session: an open session; the caller holds the rows of these units, or no row at all.
        units: to return.
        owner: that must still hold them, given where it is unknown whether the lease was committed: after a rollback
            another owner may have the same token.
    """
    statement = text("""UPDATE unit SET state = 'pending', owner = NULL, lease_until = NULL, attempts = attempts - 1
                        WHERE unit_id = :unit_id AND token = :token AND state = 'leased'
                          AND owner = coalesce(:owner, owner)""")
    for unit in sorted(units, key=lambda unit: unit.unit_id):
        session.execute(statement, {"unit_id": unit.unit_id, "token": unit.token, "owner": owner})


def is_held(session: Session, unit: HeldUnit) -> bool:
    """Whether a unit is still leased under this token."""
    statement = text("""SELECT EXISTS (SELECT FROM unit
                        WHERE unit_id = :unit_id AND token = :token AND state = 'leased')""")
    return bool(session.execute(statement, {"unit_id": unit.unit_id, "token": unit.token}).scalar_one())


_LEAVE = text("""
    UPDATE unit SET state = 'pending', owner = NULL, lease_until = NULL, attempts = attempts - 1,
        last_error = CASE
            WHEN NOT coalesce(starts_with(last_error, cast(:prefix AS text)), false) THEN cast(:prefix AS text) || :host
            WHEN :host = ANY (string_to_array(substr(last_error, length(cast(:prefix AS text)) + 1), ', '))
                THEN last_error
            ELSE last_error || ', ' || :host END
    WHERE unit_id = :unit_id AND token = :token AND state = 'leased'""")


def leave_unit(session: Session, unit: LeasedUnit, error: MediaUnreachable) -> None:
    """Return a unit without counting the attempt, and record this host among those that cannot read its file."""
    host = socket.gethostname()
    prefix = f"away: {error.place} cannot be read on "
    parameters = {"unit_id": unit.unit_id, "token": unit.token, "prefix": prefix, "host": host}
    session.execute(_LEAVE, parameters)
