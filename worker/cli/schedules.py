"""``facet schedule``: lists, adds, removes and runs schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, echo, print_json, print_rows, utf8_or_none
from worker.config import settings
from worker.errors import UsageError
from worker.ledger.releases import operator
from worker.schedules.rows import add_schedule, read_schedule, read_schedules, remove_schedule
from worker.schedules.times import parse_times
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from worker.schedules.rows import Schedule

app = typer.Typer(help="Schedules: work that comes again, which `facet beat` begins.", no_args_is_help=True)


class WorkChoice(StrEnum):
    """The work of a schedule."""

    regroup = "regroup"
    retention = "retention"
    reprocess = "reprocess"


class ThenChoice(StrEnum):
    """The step that follows a reprocessing."""

    diff = "diff"
    activate = "activate"


class SpeedChoice(StrEnum):
    """The share of the workers' time that a reprocessing takes."""

    low = "low"
    normal = "normal"
    full = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSchedule:
    """A schedule in brief."""

    schedule: int
    kind: str
    when: str
    enabled: bool
    next_at: datetime
    last_ended_at: datetime | None
    last_result: str | None
    held_reason: str | None
    created_by: str


Number = Annotated[int, typer.Argument(metavar="N", help="Number of the schedule, as in `facet schedule list`.")]


@app.command("list", epilog="Example: facet schedule list")
def list_schedules(as_json: JsonFlag = False) -> None:
    """List the schedules; times are in UTC, by the clock of the database."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database, database.sessions.begin() as session:
        found = read_schedules(session)
    print_rows("Schedules", ListedSchedule, [_listed(one) for one in found], as_json=as_json)


def _listed(found: Schedule) -> ListedSchedule:
    return ListedSchedule(
        schedule=found.schedule_id,
        kind=found.kind,
        when=found.times.describe(),
        enabled=found.enabled,
        next_at=found.next_at,
        last_ended_at=found.last_ended_at,
        last_result=found.last_result,
        held_reason=found.held_reason,
        created_by=found.created_by,
    )


@app.command(epilog="Example: facet schedule add reprocess --window 22:00-06:00 --days mon-fri --tz Europe/Berlin")
def add(  # noqa: PLR0913, PLR0917 - the options of a command are its arguments
    kind: Annotated[
        WorkChoice,
        typer.Argument(
            help="Group all people from scratch, erase files that are due, or fill in what a release lacks."
        ),
    ],
    every: Annotated[
        str | None, typer.Option("--every", metavar="PERIOD", help="Period with s, m, h or d, such as 24h.")
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="EXPRESSION", help="Minute, hour, day, month and day of the week: '0 3 * * *'."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="FROM-TO", help="Of reprocess: hours in which it works, such as 22:00-06:00."),
    ] = None,
    days: Annotated[
        str | None,
        typer.Option("--days", help="Days on which the window opens: mon-fri or sat,sun. Default: all of them."),
    ] = None,
    tz: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Time zone of window and cron, such as Europe/Berlin.")
    ] = "UTC",
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            help="Of reprocess: number, name or alias of the release. Default: candidate.",
            callback=utf8_or_none,
        ),
    ] = None,
    heads: Annotated[
        str | None, typer.Option("--heads", help="Of reprocess: only these heads of it, separated by commas.")
    ] = None,
    then: Annotated[
        ThenChoice | None,
        typer.Option("--then", help="Of reprocess: write a report at the end; or also switch, if the gate lets it."),
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", help="Of reprocess: priority of its job.", min=-100, max=100)
    ] = None,
    speed: Annotated[
        SpeedChoice | None,
        typer.Option("--speed", help="Of reprocess: share of the workers' time, a quarter, half or all."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Add a schedule; it takes the place of the default schedule of its kind."""
    times = parse_times(every=every, cron=cron, window=window, days=days, zone=tz)
    given = {"release": release, "heads": _split(heads), "then": then, "priority": priority, "speed": speed}
    options = {name: getattr(value, "value", value) for name, value in given.items() if value is not None}
    if kind is not WorkChoice.reprocess and (times.window is not None or options):
        names = [f"--{name}" for name in (*(("window",) if window else ()), *(("days",) if days else ()), *options)]
        raise UsageError(f"got {', '.join(names)} for {kind.value}, expected with reprocess alone; leave it out")
    config = settings()
    make_home(config.home)
    with open_database(config) as database, database.sessions.begin() as session:
        number, replaced = add_schedule(session, kind.value, times, options, operator())
        found = read_schedule(session, number)
    if as_json:
        print_json({"schedule": number, "next_at": found.next_at, "replaced": replaced})
        return
    instead = "".join(f"; it takes the place of schedule {one}" for one in replaced)
    echo(f"schedule {number}: {kind.value} {times.describe()}, next at {found.next_at:%Y-%m-%d %H:%M:%S} UTC{instead}")


def _split(heads: str | None) -> list[str] | None:
    return None if heads is None else [name.strip() for name in heads.split(",") if name.strip()]


@app.command(epilog="Example: facet schedule remove 3")
def remove(number: Number, as_json: JsonFlag = False) -> None:
    """Remove a schedule; a run that has begun goes on, and a job that its window paused stays paused."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database, database.sessions.begin() as session:
        found = remove_schedule(session, number)
    job = found.last_job_id if found.job_open else None
    if as_json:
        print_json({"removed": number, "job": job})
        return
    echo(f"{found.describe()} is removed: {found.times.describe()}")
    if job is not None:
        echo(f"its job stays: facet status {job}; if it is paused, facet jobs resume {job}, or facet cancel {job}")


@app.command(epilog="Example: facet schedule run 2")
def run(number: Number, as_json: JsonFlag = False) -> None:
    """Run a schedule now, whatever its times, and wait until it has ended; exit status 1 when it failed.

    A reprocessing is started, or goes on until its window closes the next time; `facet status` shows its job.
    """
    from worker.deployment.scheduled.upkeep import actions_by_hand
    from worker.schedules.runs import run_now

    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        with database.sessions.begin() as session:
            read_schedule(session, number)
        outcome = run_now(database.sessions, number, actions_by_hand(config, database))
    if as_json:
        print_json({"schedule": number, "result": outcome.result})
    else:
        echo(f"schedule {number} has run: {outcome.result}")
