"""``facet analyze``: submits and analyses files in this process, without a broker."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, console, echo, print_json, progress_bar, table, typed, utf8_or_none
from worker.config import Settings, settings
from worker.ingest.selection import FileSelection
from worker.ledger.status.summary import (
    ALL_FAILURES,
    ALL_NOTES,
    FIRST_QUESTION,
    FileFailure,
    FileNote,
    Summary,
    summarise_job,
)
from worker.storage.home import hold_home
from worker.visible import path_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from sqlalchemy.orm import Session

    from worker.analysis.runner import Worker
    from worker.ledger.submission.job import Submission, SubmitCounts
    from worker.storage.database import Database

SHOWN_FILES = 20
SHOWN_JOBS = 5
STOPPING = b"\nstopping, which takes some seconds; press Ctrl-C again to end at once\n"

Paths = Annotated[
    list[str], typer.Argument(help="Files, folders, archives (zip, tar), quoted globs, or URLs of these (s3://...).")
]
Fps = Annotated[
    float, typer.Option("--fps", help="Frames per second that are analysed of a video.", min=0.001, max=1000)
]
EveryFrame = Annotated[bool, typer.Option("--every-frame", help="Analyse every frame of a video.")]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Name of the job; default: that of the first path.", callback=utf8_or_none),
]

KeepDays = Annotated[
    int | None,
    typer.Option("--keep-days", help="Days after which its files are erased (docs/erasure.md); default: never.", min=1),
]

Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include", metavar="PATTERN", help="Only files and folders of such a name or path, as in '*.jpg'; repeatable."
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="PATTERN", help="No files or folders of such a name or path; may be repeated."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit status 1 also for files that are no media.")]
MaxTiles = Annotated[
    int | None,
    typer.Option(
        "--max-tiles",
        help="Maximum of tiles of an image of more than 1600 pixels a side; default: FACET_MAX_TILES.",
        min=0,
        max=4096,
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet analyze ~/archive video.mp4 photos.zip --fps 1")(analyze)


def analyze(  # noqa: PLR0913, PLR0917 - the options of a command are its arguments
    paths: Paths,
    fps: Fps = 2.0,
    every_frame: EveryFrame = False,
    name: Name = None,
    keep_days: KeepDays = None,
    max_tiles: MaxTiles = None,
    include: Include = None,
    exclude: Exclude = None,
    strict: Strict = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the files, and estimate time and room from earlier jobs here.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Find, describe and identify every face in media files, on this machine, without a broker.

    Exit status: 0 when every file was analysed (files that are no media aside, unless --strict), 1 when some were
    rejected or something failed, 2 for wrong use.
    """
    config = settings()
    if max_tiles is not None:
        config = config.model_copy(update={"max_tiles": max_tiles})
    selection = FileSelection(tuple(include or ()), tuple(exclude or ()))
    check_paths(paths)
    if dry_run:
        from worker.cli.output.forecast import print_forecast

        print_forecast(config, paths, selection, None if every_frame else fps, as_json=as_json)
        return
    with hold_home(config.home), stop_on_signals() as stop:
        request = _JobRequest(paths, None if every_frame else fps, name or job_name(paths), keep_days, selection)
        summary = _run(config, request, stop)
    if as_json:
        print_json(summary.as_json())
    else:
        print_summary(summary)
    if stop.is_set():
        raise KeyboardInterrupt
    if not summary.went_well(strict=strict):
        raise typer.Exit(1)


def job_name(paths: list[str]) -> str:
    """Return the default name of a job: that of its first file or folder."""
    return path_text(Path(paths[0]).name or paths[0])


def check_paths(paths: list[str]) -> None:
    """Refuse paths that do not exist, before anything is started.

    Raises:
        UsageError: a path names nothing.
    """
    from worker.ingest import check_arguments  # wrong use is reported before torch is imported

    check_arguments(paths, settings().media_roots)


@dataclass(frozen=True, slots=True)
class _JobRequest:
    """The arguments of the command, checked."""

    paths: list[str]
    fps: float | None
    """None for every frame."""
    name: str
    keep_days: int | None
    selection: FileSelection


def _run(config: Settings, request: _JobRequest, stop: threading.Event) -> Summary:
    from worker.cli.output.job_progress import JobProgress
    from worker.deployment.exporter import serve_analysis
    from worker.deployment.local import make_worker, work_on
    from worker.ledger.submission.job import Submission
    from worker.storage.database import open_database

    with ExitStack() as opened:
        with console(stderr=True).status("starting the database and loading the models ..."):
            database = opened.enter_context(open_database(config))
            opened.enter_context(serve_analysis(config, database.sessions))
            worker = make_worker(config, database)
        submission = Submission(
            name=request.name,
            release=worker.ids,
            frames_per_second=request.fps,
            unit_seconds=config.unit_seconds,
            keep_days=request.keep_days,
            selection=request.selection,
        )
        if stop.is_set():
            raise KeyboardInterrupt
        counts = submit_paths(config, database, request.paths, submission, stop)
        job_id = counts.job_id
        report_known(counts)
        _report_others(database, job_id)
        with progress_bar() as bar:
            progress = JobProgress(database.sessions, job_id, config.unit_seconds, bar)
            work_on(worker, database, job_id, stop, progress.show)
            if not stop.is_set():
                progress.identifying()
                worker.identifier.finish()
        with database.sessions.begin() as session:
            _warn_if_hidden(session, worker)
            return summarise_job(session, job_id)


def _warn_if_hidden(session: Session, worker: Worker) -> None:
    """Warn where the views show another release, as they do after an upgrade until it is activated."""
    from worker.ledger.releases import active_release

    active, active_name = active_release(session)
    if active.release_id != worker.ids.release_id:
        echo(
            f"the views show release {active_name}, and these results are of another one; choose with "
            "`facet releases list` and `facet releases activate`",
            err=True,
        )


def submit_paths(
    config: Settings,
    database: Database,
    paths: list[str],
    submission: Submission,
    stop: threading.Event | None = None,
) -> SubmitCounts:
    """Submit the files that the paths name, until the event is set; return the counts of the job."""
    from worker.deployment.local import submit_files

    stopped = stop or threading.Event()
    with console(stderr=True).status("reading files ...") as status:

        def show_count(counts: SubmitCounts) -> None:
            status.update(f"reading files ... {counts.files:,}")

        counts = submit_files(config, database, paths, submission, show_count, stopped.is_set)
    if submission.selection.left_out:
        echo(f"{submission.selection.left_out:,} files are left out by --include and --exclude", err=True)
    return counts


def report_known(counts: SubmitCounts) -> None:
    """Report on standard error that files were submitted before."""
    if counts.known:
        found = counts.files - counts.refused
        of_all = "all" if counts.known == found else f"{counts.known:,} of"
        echo(f"{of_all} {found:,} files are known or copies of each other; none is analysed twice", err=True)


def _report_others(database: Database, job_id: int) -> None:
    """Name on standard error the other jobs that have files left, and what to do."""
    from worker.ledger.status.work import read_other_jobs

    with database.sessions.begin() as session:
        others = read_other_jobs(session, job_id)
    for one in others[:SHOWN_JOBS]:
        goes_on = (
            f"it is paused; to go on: {typed('jobs', 'resume', str(one.job_id))}"
            if one.is_paused
            else "the command that began it, or a worker, goes on with them"
        )
        cancel = typed("cancel", str(one.job_id))
        echo(f"job {one.job_id} ({one.name}) has {one.files:,} files left: {goes_on}; to end it: {cancel}", err=True)
    if len(others) > SHOWN_JOBS:
        echo(f"... and {len(others) - SHOWN_JOBS:,} more jobs: {typed('status')}", err=True)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Set an event on the first Ctrl-C or SIGTERM, so that work ends cleanly; a second one interrupts at once."""
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        with suppress(OSError):  # the program that read it may have ended
            os.write(2, STOPPING)  # no stream: the signal may have come in the middle of its writing

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_summary(summary: Summary) -> None:
    """Print the summary of a job as tables."""
    out = console()
    kept = summary.faces - sum(summary.dropped.values())
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in summary.dropped.items()) or "none"
    rows = [
        ("files submitted", summary.submitted),
        ("  done", summary.done),
        ("  rejected", summary.rejected - summary.sidecars),
        *([("  ignored (sidecars)", summary.sidecars)] if summary.sidecars else []),
        ("  quarantined", summary.quarantined),
        *([("  cancelled", summary.cancelled)] if summary.cancelled else []),
        ("  pending", summary.pending),
        ("frames looked at", summary.frames),
        ("faces found", summary.faces),
        ("  analysed", kept),
        ("  dropped", f"{summary.faces - kept:,} ({dropped})"),
        ("appearances", summary.appearances),
        ("people", summary.people),
    ]
    out.print(table(f"Job {summary.job_id}", ("", "count"), [(name, _count(value)) for name, value in rows]))
    _show_files(out, "Not analysed", ("file", "state", "reason"), summary.failures, ALL_FAILURES)
    _show_files(out, "Analysed in part, or doubtful", ("file", "note"), summary.notes, ALL_NOTES)
    echo(f"Ask:  {typed('sql', FIRST_QUESTION)}")
    echo(f"Look: {typed('sheet', '-o', 'faces.png')}")


def _show_files(
    out: Console, title: str, columns: Sequence[str], files: Sequence[FileFailure | FileNote], query: str
) -> None:
    """Print the first rows of a list of files and the query for all of them."""
    shown = [astuple(one) for one in files[:SHOWN_FILES]]
    if shown:
        out.print(table(title, columns, shown, prose=columns[-1:]))
    if len(files) > len(shown):
        echo(f"... and {len(files) - len(shown):,} more: {typed('sql', query)}")


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
