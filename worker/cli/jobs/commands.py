"""``facet submit``, ``facet status`` and ``facet cancel``."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from worker.cli.analyze import (
    EveryFrame,
    Exclude,
    Fps,
    Include,
    KeepDays,
    Name,
    Paths,
    Strict,
    check_paths,
    job_name,
    report_known,
    submit_paths,
)
from worker.cli.output.empty import explain_empty
from worker.cli.output.terminal import JsonFlag, console, echo, print_json, progress_bar, table, typed
from worker.config import settings
from worker.errors import RetryableError, UsageError
from worker.ingest.selection import FileSelection
from worker.storage.database import Database, open_database
from worker.storage.home import make_home
from worker.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from db.status.jobs import JobCounts
    from worker.deployment.wakeups import Wakeups
    from worker.ledger.status.job_status import JobStatus

WATCH_SECONDS = 1.0
STATUS_COLUMNS = (
    "job", "name", "submitted", "done", "rejected", "ignored", "quarantined", "cancelled", "pending", "units", "%",
    "faces/s", "left",
)  # fmt: skip
ALWAYS = ("job", "name", "submitted", "done", "rejected", "pending", "%")

Priority = Annotated[
    int,
    typer.Option(
        "--priority",
        help="Jobs of higher priority come first; jobs of equal priority share the workers fairly.",
        min=-100,
        max=100,
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: facet submit /archive --name 'Archive 1998' --wait")(submit)
    app.command(epilog="Example: facet status 12 --watch")(status)
    app.command(epilog="Example: facet cancel 12 --yes")(cancel)


def submit(  # noqa: PLR0913, PLR0917 - the options of a command are its arguments
    paths: Paths,
    fps: Fps = 2.0,
    every_frame: EveryFrame = False,
    name: Name = None,
    priority: Priority = 0,
    keep_days: KeepDays = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job has ended.")] = False,
    as_json: JsonFlag = False,
    include: Include = None,
    exclude: Exclude = None,
    strict: Strict = False,
) -> None:
    """Write a job to the ledger and wake the workers (`facet worker`).

    Exit status: 0 when the job was written (with --wait: when every file was analysed, files that are no media aside,
    unless --strict), 1 when something failed, 2 for wrong use.
    """
    from worker.deployment.app import make_app
    from worker.deployment.wakeups import Wakeups
    from worker.ledger.submission.job import Submission
    from worker.ledger.upkeep.staged_members import open_sources
    from worker.releases.folders import ReleaseFolders

    config = settings()
    check_paths(paths)
    make_home(config.home)
    wakeups = Wakeups(make_app(config))
    with open_database(config) as database:
        release = ReleaseFolders(config, database.sessions).submitted()
        submission = Submission(
            name=name or job_name(paths),
            release=release,
            frames_per_second=None if every_frame else fps,
            priority=priority,
            unit_seconds=config.unit_seconds,
            keep_days=keep_days,
            selection=FileSelection(tuple(include or ()), tuple(exclude or ())),
        )
        counts = submit_paths(config, database, paths, submission)
        job_id = counts.job_id
        report_known(counts)
        open_sources(config).clear()
        if as_json:
            print_json(asdict(counts))
        else:
            echo(f"job {job_id} submitted; see it with: {typed('status', str(job_id), '--watch')}")
        wake(wakeups, database, job_id)
        if wait and not watch_job(database, job_id, strict=strict, as_json=as_json):
            raise typer.Exit(1)


def wake(wakeups: Wakeups, database: Database, job_id: int) -> None:
    """Wake the workers; if that fails, the job is stored all the same.

    Raises:
        RetryableError: database or broker are unreachable, or the broker's memory is full.
    """
    try:
        wakeups.wake(database)
    except RetryableError as err:
        raise RetryableError(
            f"job {job_id} is stored, but no worker was woken: {err}; a worker that starts, or `facet beat`, finds it"
        ) from err


def status(
    job: Annotated[int | None, typer.Argument(help="Number of a job; default: the latest jobs.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until the job has ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the progress of jobs, slow units and failures."""
    from worker.ledger.status.health import run_health_checks
    from worker.ledger.status.job_status import read_status
    from worker.releases.health import newer_shipped

    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        if watch:
            watch_job(database, job)
            return
        with database.sessions.begin() as session:
            found = read_status(session, job)
            notes = [f"all jobs: {one}" for one in run_health_checks(session)]
            notes += [note for note in (newer_shipped(session),) if note is not None]
        explain_empty(database, config)
    if job is not None and not found:
        raise UsageError(f"there is no job {job}; see `facet status`")
    if as_json:
        print_json([one.as_dict() for one in found])
    else:
        console().print(draw_jobs(found), *(Text(visible(note)) for note in notes), sep="\n")


def cancel(
    job: Annotated[int, typer.Argument(help="Number of the job, as in `facet status`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop a job; stored results are kept, and files that another job waits for go on.

    Units in flight are dropped. The same files, submitted again, go on where they stopped; so does `facet reprocess`.

    Exit status: 0 also when the job had ended already, 1 when you did not confirm, 2 when there is no such job.
    """
    from worker.ledger.status.job_status import read_status
    from worker.ledger.submission.cancel import cancel_job
    from worker.storage.crops import CropStore

    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        with database.sessions.begin() as session:
            found = read_status(session, job)
        if not found:
            raise UsageError(f"there is no job {job}; see `facet status`")
        counts = found[0].counts
        if counts.pending and not yes:
            _ask(counts)
        with progress_bar() as bar:
            shown = bar.add_task(f"cancelling job {job}", total=found[0].units_open, facts="")
            done = cancel_job(
                database.sessions, job, lambda now: bar.update(shown, completed=now.units), CropStore(config.crops)
            )
    if as_json:
        print_json(asdict(done))
    elif done.batches:
        echo(f"job {job}: {done.units:,} units cancelled, {done.taken_back:,} of them in flight")
    elif done.files or done.shared:
        echo(
            f"job {job}: {done.files:,} files cancelled ({done.units:,} units, {done.taken_back:,} of them in flight); "
            f"{done.shared:,} files go on for other jobs"
        )
    else:
        echo(f"job {job} has ended; there is nothing to cancel")


def _ask(counts: JobCounts) -> None:
    """Ask the user to confirm.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            f"{_pending(counts)} of job {counts.job_id} wait, and there is no terminal to confirm on; "
            "pass --yes to cancel them"
        )
    typer.confirm(visible(f"Cancel {_pending(counts)} of job {counts.job_id} ({counts.name})?"), abort=True)


def _pending(counts: JobCounts) -> str:
    return f"{counts.pending:,} {'faces' if counts.kind == 'reprocess' else 'files'}"


def watch_job(database: Database, job: int | None, *, strict: bool = False, as_json: bool = False) -> bool:
    """Show jobs until they have ended; return whether they went well (`JobStatus.went_well`)."""
    from worker.ledger.status.job_status import read_status

    with Live(console=console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            with database.sessions.begin() as session:
                found = read_status(session, job)
            live.update(draw_jobs(found), refresh=True)
            if not any(one.counts.pending or one.counts.submission == "open" for one in found):
                break
            time.sleep(WATCH_SECONDS)
    if not as_json:
        console().print(draw_jobs(found))
    return all(one.went_well(strict=strict) for one in found)


def draw_jobs(found: list[JobStatus]) -> RenderableType:
    """Lay out jobs, and their notes; counts that are zero for all of them are left out, the usual ones aside."""
    rows = [_row(one, with_units=len(found) == 1) for one in found]
    columns = [name for name in STATUS_COLUMNS if any(row.get(name) for row in rows) or name in ALWAYS]
    jobs = table("Jobs", columns, [[row.get(name) for name in columns] for row in rows])
    notes = [Text(visible(f"job {one.counts.job_id}: {note}")) for one in found for note in one.notes]
    return Group(jobs, *notes)


def _row(one: JobStatus, *, with_units: bool) -> dict[str, object]:
    """Return the cells of a job by their columns; units are of interest in a single one, such as a long video."""
    counts = one.counts
    names = ("submitted", "done", "rejected", "quarantined", "cancelled", "pending")
    ended = sum(one.units.values()) - one.units_open
    return {
        "job": counts.job_id,
        "name": counts.name,
        **{name: getattr(counts, name) for name in names},
        "rejected": counts.rejected - one.sidecars,
        "ignored": one.sidecars,
        "units": f"{ended}/{sum(one.units.values())}" if with_units else None,
        "%": None if one.percent is None else f"{one.percent:.0f}",
        "faces/s": one.faces_per_second,
        "left": one.time_left,
    }
