"""Checks of a deployment, each with a remedy where it fails."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.orm import Session

from db.engine import make_engine
from db.errors import DatabaseError
from db.schema.migrate import current_state, missing_limits
from db.status.reprocess import read_reprocessing
from db.status.schedules import read_schedule_health
from worker.analysis.runner import decode_limits
from worker.config import unknown_settings
from worker.decode.child.confine import PROTECTIONS
from worker.decode.client import Decoder
from worker.erasure.health import read_waiting
from worker.errors import FacetError
from worker.identity.proposals import read_proposals
from worker.ledger.status.health import describe_schedule, run_health_checks
from worker.ledger.upkeep.crop_walk import find_orphans
from worker.ledger.upkeep.runs import describe_runs, read_runs
from worker.masking import masked
from worker.releases.folders import load_own
from worker.releases.health import check_store
from worker.storage.crops import CropStore
from worker.storage.database import database_address, open_database, require_access
from worker.storage.home import make_home
from worker.storage.release_store import ReleaseStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.status.reprocess import ReprocessHealth
    from worker.config import Settings

Answer = TypeVar("Answer")
NO_TABLES = "not checked: the tables do not exist yet"
ADVISED_FREE_BYTES = 2 << 30  # with less, crops and the database soon cannot be written


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    subject: str
    ok: bool
    found: str
    """The facts; of a check that failed, with the remedy."""


def examine_deployment(config: Settings) -> list[Finding]:
    """Check everything that the settings name; a failure becomes a finding."""
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("settings", _settings),
        ("home", _home),
        ("disk", _disk),
        ("database", _database),
        ("work", _work),
        ("schedules", _schedules),
        ("reprocessing", _reprocessing),
        ("people", _people),
        ("erasure", _erasure),
        ("broker", _broker),
        ("release", _release),
        ("releases", _releases),
        ("decoder", _decoder),
    ]
    return [_check(subject, check, config) for subject, check in checks]


def examine_crops(config: Settings) -> Finding:
    """Compare the whole crop store with all rows; a million files take some minutes."""
    return _check("crops", _crops, config)


def examine_database(config: Settings) -> Finding:
    """Check the database alone: its tables, roles and limits."""
    return _check("database", _database, config)


def _check(subject: str, check: Callable[[Settings], str], config: Settings) -> Finding:
    try:
        return Finding(subject, ok=True, found=masked(check(config)))
    except (FacetError, DatabaseError) as err:
        return Finding(subject, ok=False, found=masked(str(err)))


def _settings(_: Settings) -> str:
    """Describe the variables that are set.

    Raises:
        FacetError: one of them is no setting.
    """
    unknown = unknown_settings()
    if unknown:
        raise FacetError(f"{'; '.join(unknown)}; docs/commands.md lists the settings")
    return "every FACET_ variable is a setting"


def _home(config: Settings) -> str:
    make_home(config.home)
    return str(config.home)


def _disk(config: Settings) -> str:
    free = shutil.disk_usage(config.home).free
    if free < ADVISED_FREE_BYTES:
        raise FacetError(f"{free / 1e9:.1f} GB are free under {config.home}, expected 2 GB or more; free space")
    return f"{free / 1e9:.0f} GB free"


def _database(config: Settings) -> str:
    with database_address(config) as url:
        state = current_state(url)
        if config.database_url is not None and not state.is_current:
            raise FacetError(f"the tables of {masked(url)} are {state.position}; run `facet db upgrade`")
        kind = "configured" if config.database_url is not None else "embedded"
        if not state.is_current:
            return f"{kind}, tables {state.position}"
        require_access(url)
        unlimited = missing_limits(url)
    note = f"; queries as the reader are not limited, an administrator may: {'; '.join(unlimited)}" if unlimited else ""
    return f"{kind}, tables {state.position}{note}"


@contextmanager
def _opened(config: Settings) -> Iterator[Session | None]:
    """Yield a session on the database; None where there are no tables yet."""
    with database_address(config) as url:
        if not current_state(url).is_current:
            yield None
            return
        engine = make_engine(url)
        try:
            with Session(engine) as session:
                yield session
        finally:
            engine.dispose()


def _ask(config: Settings, read: Callable[[Session], list[Answer]]) -> list[Answer] | None:
    """Return what a function reads from the database; None where there are no tables yet."""
    with _opened(config) as session:
        return None if session is None else read(session)


def _work(config: Settings) -> str:
    with _opened(config) as session:
        if session is None:
            return NO_TABLES
        findings, runs = run_health_checks(session), read_runs(session)
    if findings:
        raise FacetError("; ".join(findings))
    return f"nothing is stuck; {describe_runs(runs)}" if runs or config.broker_url is not None else "nothing is stuck"


def _schedules(config: Settings) -> str:
    """Describe the schedules; what is wrong with one is part of the work."""
    found = _ask(config, read_schedule_health)
    if found is None:
        return NO_TABLES
    return "; ".join(describe_schedule(one) for one in found) or "none: nothing comes again by itself"


def _reprocessing(config: Settings) -> str:
    """Describe the reprocess jobs that have not ended.

    Raises:
        FacetError: batches of one were given up.
    """
    found = _ask(config, read_reprocessing)
    if found is None:
        return NO_TABLES
    given_up = [one for one in found if one.quarantined]
    if given_up:
        jobs = ", ".join(f"job {one.job_id} ({one.quarantined:,} faces)" for one in given_up)
        raise FacetError(f"batches were given up: {jobs}; see `facet status`, then run `facet reprocess` again")
    return "; ".join(_of_job(one) for one in found) or "nothing is being filled in"


def _of_job(one: ReprocessHealth) -> str:
    gaps = f", {one.gaps:,} without a source" if one.gaps else ""
    return f"job {one.job_id} for {one.release}: {one.pending:,} faces left{gaps}{', paused' * one.is_paused}"


def _people(config: Settings) -> str:
    waiting = _ask(config, read_proposals)
    if waiting is None:
        return NO_TABLES
    lines = [f"proposal {one.proposal_id} waits: {one.reason}; see `facet people proposals`" for one in waiting]
    return "; ".join(lines) or "no regrouping waits"


def _erasure(config: Settings) -> str:
    with _opened(config) as session:
        if session is None:
            return NO_TABLES
        waiting = read_waiting(session, config.staging.absolute())
    if waiting:
        raise FacetError("; ".join(waiting))
    return "nothing waits to be erased"


def _crops(config: Settings) -> str:
    with open_database(config) as database:
        audit = find_orphans(database.sessions, CropStore(config.crops))
    if audit.is_clean:
        return f"{audit.strips:,} strips, all with rows, and none is missing"
    unexpected = {
        "strips without a row; `facet beat` removes them": audit.orphans,
        "strips of no analysis of this database; remove them if no other database uses this store": audit.strangers,
        "strips that rows name and that are missing; is the store mounted?": audit.missing,
    }
    raise FacetError(
        "; ".join(f"{len(names):,} {what} (the first: {names[0]})" for what, names in unexpected.items() if names)
    )


def _broker(config: Settings) -> str:
    if config.broker_url is None:
        return "none (only `facet analyze` works)"
    from worker.deployment.broker import check_broker  # noqa: PLC0415 - without a broker its library is not needed

    check_broker(config.broker_url)
    return "answers, keeps its messages"


def _release(config: Settings) -> str:
    release = load_own(config)
    heads = ", ".join(release.heads) or "identity only"
    return f"{release.name} on {release.device} ({heads})"


def _releases(config: Settings) -> str:
    with _opened(config) as session:
        return NO_TABLES if session is None else check_store(session, ReleaseStore(config.releases))


def _decoder(config: Settings) -> str:
    """Start a decode child and return its protections; one that the system lacks is named, and is no failure."""
    with Decoder(decode_limits(config), config.video_reader) as decoder:
        active = decoder.protections()
    missing = [one for one in PROTECTIONS if one not in active]
    state = f"children run under: {', '.join(one for one in PROTECTIONS if one in active)}"
    return f"{state}; not in force: {', '.join(missing)}" if missing else state
