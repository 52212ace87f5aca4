"""What of the ledger needs somebody's eye, and what to do; ``facet status`` and ``facet doctor`` show it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from db.status.health import read_away, read_health, read_other_releases, read_unidentified
from worker.ledger.identify_attempts import MAX_ATTEMPTS
from worker.ledger.upkeep.runs import read_late

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.status.health import LedgerHealth

QUIET_SECONDS = 60.0  # without a lease and a result for so long, nobody is at work: workers ask every half second


def run_health_checks(session: Session) -> list[str]:
    """Read what keeps work of all jobs from going forward; nothing where all is well."""
    health = read_health(session)
    findings = check_units(health) + [
        f"{one.files:,} files have appearances without people, because identifying them failed {MAX_ATTEMPTS} times "
        f"(the first is {one.uri}: {one.error}); `facet people regroup` tries them again"
        for one in read_unidentified(session, MAX_ATTEMPTS)
    ]
    if health.waiting:
        findings += [
            f"files wait for release {name}, which is not the active one: a worker with its folder as FACET_RELEASE "
            "takes them, `facet cancel` gives them up"
            for name in read_other_releases(session)
        ]
        findings += [
            f"files wait for a host that has them: {said}; mount it there or start `facet worker` where it is, or give "
            "them up with `facet cancel`"
            for said in read_away(session)
        ]
    return findings + read_late(session, waiting=bool(health.waiting))


def check_units(health: LedgerHealth) -> list[str]:
    """Say what is wrong with the open units."""
    findings = []
    if health.waiting and not health.workers and (health.silent_seconds or QUIET_SECONDS) >= QUIET_SECONDS:
        since = "ever" if health.silent_seconds is None else f"for {_span(health.silent_seconds)}"
        findings.append(
            f"no worker is at work: {health.waiting:,} units wait, the oldest since "
            f"{_span(health.oldest_seconds or 0)}, and none ended {since}; start one (`facet worker`)"
        )
    if health.abandoned:
        findings.append(
            f"{health.abandoned:,} units lie beyond their lease: a worker died or was cut off; others take them one "
            "by one"
        )
    if health.suspects:
        findings.append(
            f"{health.suspects:,} units failed and are tried again alone, which is slow; `facet status JOB` says why"
        )
    return findings


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
