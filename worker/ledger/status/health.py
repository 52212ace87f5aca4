"""Health checks: conditions that keep jobs from progressing, each with its remedy.

``facet status`` and ``facet doctor`` show them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from db.status.health import read_away, read_health, read_unidentified, read_waiting_releases
from db.status.schedules import read_schedule_health
from worker.ledger.identify_attempts import MAX_IDENTIFY_ATTEMPTS
from worker.ledger.releases import code_version
from worker.ledger.upkeep.runs import REMEDY, read_late, read_runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from db.status.health import LedgerHealth
    from db.status.schedules import ScheduleHealth

OVERDUE_SECONDS = 7200.0  # after which a due schedule counts as not run; a run may take an hour
QUIET_SECONDS = 60.0  # without a lease or result, after which no worker is running: workers ask every half second


def run_health_checks(session: Session) -> list[str]:
    """Return a message for each condition that keeps jobs from progressing; none where all is well."""
    health = read_health(session)
    findings = check_units(health) + [
        f"{one.files:,} files have appearances without people, because identification failed {MAX_IDENTIFY_ATTEMPTS} "
        f"times (the first is {one.uri}: {one.error}); `facet people regroup` tries them again"
        for one in read_unidentified(session, MAX_IDENTIFY_ATTEMPTS)
    ]
    if health.waiting:
        findings += [
            f"files wait for release {name}, which version {version} of the program computes, and this is "
            f"{code_version()}; start a worker of that version, or give the files up with `facet cancel`"
            for name, version in read_waiting_releases(session)
            if _pipeline_of(version) != _pipeline_of(code_version())
        ]
        findings += [
            f"files wait for a host that has them: {place}; is it mounted? Mount it, start `facet worker` on a host "
            "that has it, or give the files up with `facet cancel`"
            for place in read_away(session)
        ]
    findings += read_late(session, waiting=bool(health.waiting))
    return findings + check_schedules(read_schedule_health(session), has_upkeep=bool(read_runs(session)))


def check_schedules(schedules: Iterable[ScheduleHealth], *, has_upkeep: bool) -> list[str]:
    """Return a message for each schedule that waits for a user, failed or is not run.

    Args:
        schedules: the enabled ones.
        has_upkeep: whether upkeep ever ended; without it, as with `facet analyze` alone, no schedule runs.
    """
    findings = []
    for one in schedules:
        name = f"schedule {one.schedule_id} ({one.kind})"
        if one.held_reason is not None:
            findings.append(f"{name} holds a release: {one.held_reason}")
        if one.has_failed:
            findings.append(
                f"{name} {one.last_result}; mend the cause, then try it with `facet schedule run {one.schedule_id}`"
            )
        elif has_upkeep and one.late_seconds > OVERDUE_SECONDS:
            findings.append(f"{name} has been due for {_span(one.late_seconds)}; {REMEDY}")
    return findings


def describe_schedule(one: ScheduleHealth) -> str:
    """Return when a schedule last went well and when it is due."""
    last = "has not run yet" if one.last_result is None else "never ended well"
    if one.success_seconds is not None:
        last = f"ended well {_span(one.success_seconds)} ago"
    due = f"due in {_span(-one.late_seconds)}" if one.late_seconds < 0 else f"due since {_span(one.late_seconds)}"
    return f"{one.kind} ({one.schedule_id}) {last}, {due}"


def check_units(health: LedgerHealth) -> list[str]:
    """Return a message for each problem of the open units."""
    findings = []
    if health.waiting and not health.workers and (health.silent_seconds or QUIET_SECONDS) >= QUIET_SECONDS:
        since = "ever" if health.silent_seconds is None else f"for {_span(health.silent_seconds)}"
        findings.append(
            f"no worker is running: {health.waiting:,} units wait, the oldest since "
            f"{_span(health.oldest_seconds or 0)}, and none ended {since}; start one (`facet worker`)"
        )
    if health.abandoned:
        findings.append(
            f"{health.abandoned:,} units have an expired lease: a worker died or was cut off; other workers take them "
            "one by one"
        )
    if health.suspects:
        findings.append(
            f"{health.suspects:,} units failed and are tried again alone, which is slow; see the reasons with "
            "`facet status JOB`"
        )
    return findings


def _pipeline_of(version: str) -> str:
    """Return that part of a version of the program on which results depend."""
    return version.partition("+")[2]


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
