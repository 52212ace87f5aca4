"""``facet reprocess``: fills in what a release lacks."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.analyze import stop_on_signals
from worker.cli.output.terminal import JsonFlag, console, echo, print_json, progress_bar, table
from worker.config import Settings, settings
from worker.errors import UsageError
from worker.storage.database import Database, open_database
from worker.storage.home import hold_home, make_home

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.ledger.batches import Speed
    from worker.ledger.releases import NamedRelease
    from worker.reprocess.plan import Started
    from worker.reprocess.preview import Preview
    from worker.reprocess.request import ReprocessRequest

BATCH_WAIT_SECONDS = 0.5  # between two looks at batches that other workers hold or that wait for another attempt
SPEEDS = ("low", "normal", "full")


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet reprocess --release candidate --heads age --dry-run")(reprocess)


def reprocess(  # noqa: PLR0913, PLR0917 - the options of a command are its arguments
    release: Annotated[
        str | None,
        typer.Option("--release", help="Name, number or alias; default: candidate if there is one, else active."),
    ] = None,
    heads: Annotated[str | None, typer.Option("--heads", help="Only these heads, as in age,gender.")] = None,
    media: Annotated[
        str | None, typer.Option("--media", help="Only files whose address fits, as in '/archive/*'.")
    ] = None,
    job: Annotated[int | None, typer.Option("--job", help="Only files of this job.")] = None,
    person: Annotated[int | None, typer.Option("--person", help="Only faces of this person.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="Only faces of a condition on the view faces, as in 'quality > 0.5'.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", help="Only so many faces, drawn over gender, ethnicity, age, quality and job.", min=1),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    priority: Annotated[
        int, typer.Option("--priority", help="Jobs of higher priority come first.", min=-100, max=100)
    ] = 0,
    speed: Annotated[
        str, typer.Option("--speed", help="Share of each worker's time: low (1/4), normal (1/2) or full.")
    ] = "full",
    wait: Annotated[bool, typer.Option("--wait", help="With a broker: wait until the job has ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Fill in what a release lacks, from the cheapest source: stored scores, embeddings, crops or the files.

    A second run finds nothing to do, and writes no job. Files that come in meanwhile are included. Without a broker the
    work is done in this process; otherwise the job is written and the workers are woken (`facet worker`).

    Exit status: 0 when all was filled in that has a source (with a broker: when the job was written), 1 when a part
    failed, 2 for wrong use.
    """
    if speed not in SPEEDS:
        raise UsageError(f"--speed is {speed!r}, expected low, normal or full")
    config = settings()
    make_home(config.home)
    limits = _Limits(heads, media, job, person, where, sample, priority, speed)
    with ExitStack() as opened:
        if not config.broker_url and not dry_run:
            opened.enter_context(hold_home(config.home))
        database = opened.enter_context(open_database(config))
        chosen, request = _request(config, database, release, limits)
        if dry_run:
            _show_preview(_preview(database, request), as_json=as_json)
            return
        started = _start(database, chosen, request)
        job_id = started.job_id
        if job_id is None:
            _report_nothing(chosen, started, as_json=as_json)
            return
        if config.broker_url:
            went_well = _hand_over(config, database, job_id, wait=wait)
        else:
            went_well = _work(config, database, job_id)
        _report(database, job_id, as_json=as_json)
    if not went_well:
        raise typer.Exit(1)


class _Limits:
    """The options that limit a reprocessing."""

    def __init__(  # noqa: PLR0913, PLR0917 - the options of the command
        self,
        heads: str | None,
        media: str | None,
        job: int | None,
        person: int | None,
        where: str | None,
        sample: int | None,
        priority: int,
        speed: str,
    ) -> None:
        if person is not None and where is not None:
            raise UsageError("got --person and --where, expected one of them; write person_id into the condition")
        self.tasks = None if heads is None else tuple(name.strip() for name in heads.split(",") if name.strip())
        self.media, self.job, self.person, self.where = media, job, person, where
        self.sample, self.priority = sample, priority
        self.speed: Speed = speed  # type: ignore[assignment]  # checked by the command


def _request(
    config: Settings, database: Database, release: str | None, limits: _Limits
) -> tuple[NamedRelease, ReprocessRequest]:
    from worker.reprocess.request import ReprocessRequest, faces_of_person, faces_where

    faces: tuple[int, ...] | None = None
    with database.sessions.begin() as session:
        chosen = _find(session, release)
        if limits.person is not None:
            faces = faces_of_person(session, limits.person)
    if limits.where is not None:
        faces = faces_where(config.reader_database_url or database.url, limits.where)
    if faces is not None and not faces:
        raise UsageError("no face fits --person or --where; try the condition with `facet sql`")
    return chosen, ReprocessRequest(
        release_id=chosen.release_id,
        tasks=limits.tasks,
        media=limits.media,
        of_job=limits.job,
        faces=faces,
        sample=limits.sample,
        priority=limits.priority,
        speed=limits.speed,
    )


def _find(session: Session, wanted: str | None) -> NamedRelease:
    from worker.ledger.releases import find_own_release, find_release

    if wanted is not None:
        return find_own_release(session, wanted)
    try:
        return find_release(session, "candidate")
    except UsageError:
        return find_release(session, "active")


def _preview(database: Database, request: ReprocessRequest) -> Preview:
    from worker.reprocess.preview import preview

    with database.sessions() as session:
        try:
            return preview(session, request)
        finally:
            session.rollback()


def _start(database: Database, release: NamedRelease, request: ReprocessRequest) -> Started:
    from worker.reprocess.plan import start

    with console(stderr=True).status("looking for what is lacking ..."), database.sessions.begin() as session:
        return start(session, request, f"reprocess {release.name}")


def _hand_over(config: Settings, database: Database, job_id: int, *, wait: bool) -> bool:
    """Wake the workers; return whether all went well as far as that was waited for."""
    from worker.cli.jobs.commands import wake, watch_job
    from worker.deployment.app import make_app
    from worker.deployment.wakeups import Wakeups

    wake(Wakeups(make_app(config)), database, job_id)
    return not wait or watch_job(database, job_id)


def _work(config: Settings, database: Database, job_id: int) -> bool:
    """Do the work of a job in this process; return whether nothing failed."""
    from worker.ledger.due import count_open
    from worker.ledger.status.job_status import read_status
    from worker.releases.serving import ReleaseWorkers
    from worker.reprocess.runner import make_reprocessor

    workers, reprocessor = ReleaseWorkers(config, database), make_reprocessor(config, database)
    with stop_on_signals() as stop, progress_bar() as bar:
        shown = bar.add_task("reprocessing", total=None, facts="")

        def show(_: object = None) -> None:
            with database.sessions.begin() as session:
                counts = read_status(session, job_id)[0].counts
            facts = f"{counts.done:,} of {counts.submitted:,} faces"
            bar.update(shown, total=counts.submitted, completed=counts.submitted - counts.pending, facts=facts)

        while not stop.is_set():
            workers.drain(stop)
            reprocessor.drain(stop, jobs=[job_id], on_batch=show)
            show()
            with database.sessions.begin() as session:
                status = read_status(session, job_id)[0]
                away = count_open(session, job_id) - count_open(session, job_id, workers.unreachable)
            counts = status.counts
            if counts.finished_at is not None or counts.paused or 0 < status.units_open == away:
                break  # it does not wait for files that this host cannot read
            stop.wait(BATCH_WAIT_SECONDS)
        if not stop.is_set():
            workers.finish()
    if stop.is_set():
        raise KeyboardInterrupt
    return counts.submission == "ended" and not counts.quarantined


def _report(database: Database, job_id: int, *, as_json: bool) -> None:
    from worker.ledger.status.job_status import read_status

    with database.sessions.begin() as session:
        status = read_status(session, job_id)[0]
    counts = status.counts
    if as_json:
        print_json(status.as_dict())
    elif counts.finished_at is None:
        echo(
            f"job {job_id}: {counts.pending:,} of {counts.submitted:,} wait; see it with: facet status {job_id} --watch"
        )
    else:
        echo(f"job {job_id}: {counts.done:,} filled in for release {counts.release}")
        for gap in status.gaps:
            echo(f"  {gap.faces:,} cannot be filled in: {gap.reason}")
        if counts.quarantined:
            echo(f"  {counts.quarantined:,} failed: facet status {job_id}")


def _report_nothing(release: NamedRelease, started: Started, *, as_json: bool) -> None:
    if as_json:
        print_json({"job_id": None, "release": release.name, "gaps": dict(started.gaps)})
        return
    echo(f"release {release.name} lacks nothing that has a source, so no job was written")
    for reason, count in started.gaps.items():
        echo(f"  {count:,} cannot be filled in: {reason}")


def _show_preview(found: Preview, *, as_json: bool) -> None:
    if as_json:
        print_json(found.as_dict())
        return
    rows = [
        (
            one.way,
            f"{one.faces:,} {'files' if one.way == 'media' else 'faces'}",
            _size(one.read_bytes),
            _size(one.written_bytes),
            "no rate yet" if one.hours is None else f"{one.hours:.2f}",
        )
        for one in found.ways
    ]
    out = console()
    columns = ("way", "lacking", "to read", "room for rows", "hours of a process")
    out.print(table(f"Release {found.release}", columns, rows))
    if not found.ways:
        echo("nothing is lacking that has a source")
    for reason, count in found.gaps.items():
        echo(f"{count:,} faces cannot be filled in: {reason}")
    echo(f"people affected: {found.people:,}; corrections affected: {found.corrections:,}")


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}"
