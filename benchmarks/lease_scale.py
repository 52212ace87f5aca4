"""Time of leasing, cancelling and status queries while a million units wait.

    .venv/bin/python benchmarks/lease_scale.py [--units 1000000] [--explain]

Makes a job of so many images, and another release's units in front of it, in a PostgreSQL of its own with the program's
tables and views; prints the table of docs/measured/benchmarks.md.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from made_release import register_made
from sqlalchemy import text

from db.engine import make_engine, session_factory
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from worker.ingest import FoundFile
from worker.ledger import units as ledger
from worker.ledger.status.health import run_health_checks
from worker.ledger.status.job_status import read_status
from worker.ledger.submission.cancel import cancel_job
from worker.ledger.submission.job import Submission
from worker.ledger.submission.pausing import pause_job, resume_job
from worker.ledger.submission.shelving import shelve
from worker.ledger.submission.submit import submit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.releases import ReleaseIds

LIMIT = 10  # units of one lease: of a worker with four decode children
LEASES = 300
SUSPECTS = 200_000


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=1_000_000, help="Units of the large job.")
    parser.add_argument("--explain", action="store_true", help="Print the plan of a lease.")
    wanted = parser.parse_args()
    with TemporaryDirectory(prefix="facet-bench-") as folder, EmbeddedPostgres(Path(folder)) as server:
        upgrade(server.url)
        measure(session_factory(make_engine(server.url)), wanted.units, explain=wanted.explain)


def measure(sessions: sessionmaker[Session], units: int, *, explain: bool) -> None:
    """Print the table."""
    other, release = (register_made(sessions, name) for name in ("old", "new"))
    large = make_job(sessions, release, units)
    tidy(sessions)
    if explain:
        print_plan(sessions, release)
    print(f"{units:,} units wait | median ms | 95th percentile ms")
    held: list[ledger.LeasedUnit] = []
    show("lease", lambda: held.extend(lease(sessions, release)), LEASES)
    show("lease, nothing due", lambda: lease(sessions, release, suspects=True), LEASES)
    show(f"heartbeat of {LEASES * LIMIT:,} units in work", lambda: beat(sessions, held), 30)
    show("submit 10 files", lambda: small_job(sessions, release), 10)
    waits = sorted(order(sessions, release, 500))
    print(f"ten files submitted behind them are leased as units {waits[0]} to {waits[-1]}")
    show("what is stuck", lambda: check_units(sessions), 10)
    show("status of the latest jobs", lambda: read(sessions), 3)
    show("status of the large job", lambda: read(sessions, large), 3)
    show("pause", lambda: turn(sessions, large, paused=True), 1)
    show("lease while it is paused", lambda: lease(sessions, release), 20)
    show("resume", lambda: turn(sessions, large, paused=False), 1)
    show("cancel", lambda: cancel_job(sessions, large), 1)
    tired = register_made(sessions, "tired")
    make_job(sessions, tired, SUSPECTS)
    rest(sessions, tired)
    show(f"lease while {SUSPECTS:,} suspects rest", lambda: lease(sessions, tired, suspects=True), 20)
    make_job(sessions, other, units)
    tidy(sessions)
    for _ in range(20):
        small_job(sessions, release)
    show("lease behind units of another release", lambda: lease(sessions, release), 20)


def tidy(sessions: sessionmaker[Session]) -> None:
    """Vacuum and analyse, as autovacuum does within minutes of such a change."""
    with sessions() as session, session.get_bind().connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")


def make_job(sessions: sessionmaker[Session], release: ReleaseIds, units: int) -> int:
    """Write a job of images, as submitting them one by one would."""
    steps = (
        """INSERT INTO media_file (sha256, uri, location, kind)
           SELECT encode(sha256((:release || ' ' || n)::bytea), 'hex'), '/large/' || n, '/large/' || n, 'image'
           FROM generate_series(1, :units) n""",
        """INSERT INTO analysis (media_id, finder_id, sampling) SELECT media_id, :finder, '2/s' FROM media_file
           WHERE media_id > (SELECT max(media_id) - :units FROM media_file) ORDER BY media_id""",
        """INSERT INTO unit (analysis_id, release_id, turn)
           SELECT analysis_id, :release, row_number() OVER (ORDER BY analysis_id)
           FROM analysis WHERE finder_id = :finder""",
        """INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id)
           SELECT :job, row_number() OVER (ORDER BY analysis_id), '', media_id, analysis_id FROM analysis
           WHERE finder_id = :finder""",
    )
    with sessions.begin() as session:
        statement = text("INSERT INTO job (name, options) VALUES ('large', '{}') RETURNING job_id")
        job_id = int(session.execute(statement).scalar_one())
        values = {"release": release.release_id, "finder": release.finder_id, "units": units, "job": job_id}
        for step in steps:
            session.execute(text(step), values)
    return job_id


_submitted = iter(range(1_000_000_000))


def small_job(sessions: sessionmaker[Session], release: ReleaseIds) -> None:
    """Submit ten images."""
    names = [f"/small/{next(_submitted)}" for _ in range(10)]
    files = [FoundFile(n, Path(n), hashlib.sha256(n.encode()).hexdigest(), "image", "jpeg", 1) for n in names]
    wanted = Submission(name="small", release=release, frames_per_second=2.0, unit_seconds=60.0)
    submit(sessions, files, wanted, decoder=None)  # type: ignore[arg-type] - images are not opened


def lease(sessions: sessionmaker[Session], release: ReleaseIds, *, suspects: bool = False) -> list[ledger.LeasedUnit]:
    """Lease units as a worker does."""
    wanted = ledger.Lease(owner="bench", release_id=release.release_id, seconds=3600, max_attempts=3)
    with sessions.begin() as session:
        return ledger.lease_units(session, wanted, LIMIT, suspects=suspects)


def order(sessions: sessionmaker[Session], release: ReleaseIds, units: int) -> list[int]:
    """Return the units that are leased before the files of one more small job."""
    while any(unit.location.startswith("/small") for unit in lease(sessions, release)):
        pass
    small_job(sessions, release)
    leased = [unit.location for _ in range(units // LIMIT) for unit in lease(sessions, release)]
    return [number + 1 for number, location in enumerate(leased) if location.startswith("/small")]


def turn(sessions: sessionmaker[Session], job_id: int, *, paused: bool) -> None:
    """Pause or resume a job, and shelve or unshelve its units."""
    with sessions.begin() as session:
        (pause_job if paused else resume_job)(session, job_id)
    shelve(sessions, job_id)


def rest(sessions: sessionmaker[Session], release: ReleaseIds) -> None:
    """Make all units of a release suspects that rest for an hour."""
    with sessions.begin() as session:
        statement = """UPDATE unit SET attempts = 1, token = 1, not_before = now() + interval '1 hour'
                       WHERE release_id = :release"""
        session.execute(text(statement), {"release": release.release_id})
    tidy(sessions)


def beat(sessions: sessionmaker[Session], units: list[ledger.LeasedUnit]) -> None:
    """Extend the leases of some units."""
    with sessions.begin() as session:
        ledger.heartbeat(session, units, 3600)


def check_units(sessions: sessionmaker[Session]) -> None:
    """Query units that do not progress."""
    with sessions.begin() as session:
        run_health_checks(session)


def read(sessions: sessionmaker[Session], job_id: int | None = None) -> None:
    """Run the queries of `facet status`."""
    with sessions.begin() as session:
        read_status(session, job_id)


def show(what: str, run: Callable[[], object], times: int) -> None:
    """Time a step and print a row."""
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        spent.append(1000 * (time.perf_counter() - started))
    spent.sort()
    print(f"{what} | {statistics.median(spent):.1f} | {spent[int(0.95 * (len(spent) - 1))]:.1f}", flush=True)


def print_plan(sessions: sessionmaker[Session], release: ReleaseIds) -> None:
    """Print how PostgreSQL finds the next units."""
    wanted = {"release_id": release.release_id, "owner": "", "seconds": 1, "limit": LIMIT, "held": []}
    with sessions() as session:
        plan = session.scalars(text(f"EXPLAIN (ANALYZE, BUFFERS) {ledger._LEASE_FRESH.text}"), wanted)  # noqa: SLF001
        print("\n".join(plan))


if __name__ == "__main__":
    main()
