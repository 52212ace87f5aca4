"""Runs of upkeep: when each last ended and which work is late, for ``facet doctor`` and ``facet status``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

UpkeepTask = Literal["reconcile", "retention", "regroup"]

LATE_SECONDS = 3600.0  # a due file should be erased within seconds; an hour is left for a long queue
SILENT_SECONDS = 600.0  # upkeep runs every half minute

_NOTE = text("""INSERT INTO upkeep_run AS u (name) VALUES (:name)
                ON CONFLICT (name) DO UPDATE SET ended_at = now(), runs = u.runs + 1""")
_RUNS = text("""SELECT name, cast(extract(epoch FROM now() - ended_at) AS float8) AS seconds FROM upkeep_run
                ORDER BY ended_at DESC, name""")
# Files that were due then should be erased: an hour after they became due, or after the last time of a schedule with
# longer periods; null while that is less than an hour ago. Counted up to MAX_COUNTED: a job may have a million files.
_LATE = text("""
    WITH retention AS (
        SELECT CASE WHEN every_seconds <= :late THEN now() - make_interval(secs => :late)
                    WHEN next_at <= now() THEN next_at ELSE last_due_at END AS due_at
        FROM schedule WHERE kind = 'retention' AND enabled
    ), bound AS (
        SELECT CASE WHEN count(*) = 0 THEN now() - make_interval(secs => :late) ELSE max(due_at) END AS at
        FROM retention
    )
    SELECT count(*) FROM (
        SELECT FROM job_item i JOIN job j USING (job_id)
        WHERE j.keep_days IS NOT NULL
          AND j.submitted_at + make_interval(days => j.keep_days) <= (
              SELECT at FROM bound WHERE at <= now() - make_interval(secs => :late))
          AND NOT EXISTS (
              SELECT FROM job_item other JOIN job k USING (job_id)
              WHERE other.media_id = i.media_id AND (k.keep_days IS NULL
                  OR k.submitted_at + make_interval(days => k.keep_days) > (SELECT at FROM bound)))
          AND NOT EXISTS (SELECT FROM erasure_failure e WHERE e.media_id = i.media_id)
        LIMIT :most) AS late""")
_HAS_RETENTION = text("SELECT EXISTS (SELECT FROM schedule WHERE kind = 'retention' AND enabled)")
_KEPT = text("SELECT EXISTS (SELECT FROM job WHERE keep_days IS NOT NULL)")
MAX_COUNTED = 1000
REMEDY = "start `facet beat` and a `facet worker` that does upkeep"


def note_upkeep(sessions: sessionmaker[Session], name: UpkeepTask) -> None:
    """Record the end of a run of upkeep, by the database's clock."""
    with sessions.begin() as session:
        session.execute(_NOTE, {"name": name})


def read_runs(session: Session) -> dict[str, float]:
    """Return the seconds since each kind of upkeep last ended, the latest first, without those that never ended."""
    return {str(row.name): float(row.seconds) for row in session.execute(_RUNS)}


def describe_runs(runs: dict[str, float]) -> str:
    """Return a line that states when each kind of upkeep ended."""
    line = ", ".join(f"{name} ended {_span(seconds)} ago" for name, seconds in runs.items())
    return line or "no upkeep ended yet: `facet beat` and a `facet worker` do it"


def read_late(session: Session, *, waiting: bool) -> list[str]:
    """Return messages about late upkeep, each with its remedy; none where all is well.

    Args:
        session: an open session.
        waiting: whether units wait, for which upkeep would wake workers.
    """
    late = int(session.execute(_LATE, {"late": LATE_SECONDS, "most": MAX_COUNTED}).scalar_one())
    runs = read_runs(session)
    if late:
        count = f"{late:,}" if late < MAX_COUNTED else f"{late:,} or more"
        late_files = f"{count} files should have been erased more than an hour ago ({describe_runs(runs)})"
        has_schedule = session.execute(_HAS_RETENTION).scalar_one()
        remedy = REMEDY if has_schedule else "add a schedule with `facet schedule add retention --every 30s`"
        return [f"{late_files}; {remedy}, or run `facet forget --due --yes`"]
    silent = runs.get("reconcile", 0.0)
    if silent > SILENT_SECONDS and (waiting or session.execute(_KEPT).scalar_one()):
        return [f"upkeep stopped: no run has ended for {_span(silent)}, so lost wake-ups and due files wait; {REMEDY}"]
    return []


def _span(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))
