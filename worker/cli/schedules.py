"""``facet schedule``: lists, adds, removes and runs schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, echo, print_json, print_rows
from worker.config import settings
from worker.ledger.releases import operator
from worker.schedules.rows import add_schedule, read_schedule, read_schedules, remove_schedule
from worker.schedules.times import parse_times
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from worker.schedules.rows import Schedule

app = typer.Typer(help="Schedules: work that comes again, which `facet beat` begins.", no_args_is_help=True)


class Kind(StrEnum):
    """The work of a schedule."""

    regroup = "regroup"
    retention = "retention"


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
        created_by=found.created_by,
    )


@app.command(epilog="Example: facet schedule add regroup --cron '0 3 * * sun' --tz Europe/Berlin")
def add(
    kind: Annotated[
        Kind, typer.Argument(help="What it does: group all people from scratch, or erase files that are due.")
    ],
    every: Annotated[
        str | None, typer.Option("--every", metavar="PERIOD", help="Period with s, m, h or d, such as 24h.")
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="EXPRESSION", help="Minute, hour, day, month and day of the week: '0 3 * * *'."),
    ] = None,
    tz: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Time zone of the cron expression, such as Europe/Berlin.")
    ] = "UTC",
    as_json: JsonFlag = False,
) -> None:
    """Add a schedule; it takes the place of the default schedule of its kind."""
    times = parse_times(every=every, cron=cron, zone=tz)
    config = settings()
    make_home(config.home)
    with open_database(config) as database, database.sessions.begin() as session:
        number, replaced = add_schedule(session, kind.value, times, {}, operator())
        found = read_schedule(session, number)
    if as_json:
        print_json({"schedule": number, "next_at": found.next_at, "replaced": replaced})
        return
    instead = "".join(f"; it takes the place of schedule {one}" for one in replaced)
    echo(f"schedule {number}: {kind.value} {times.describe()}, next at {found.next_at:%Y-%m-%d %H:%M:%S} UTC{instead}")


@app.command(epilog="Example: facet schedule remove 3")
def remove(number: Number, as_json: JsonFlag = False) -> None:
    """Remove a schedule; a run that has begun goes on."""
    config = settings()
    make_home(config.home)
    with open_database(config) as database, database.sessions.begin() as session:
        found = remove_schedule(session, number)
    if as_json:
        print_json({"removed": number})
    else:
        echo(f"{found.describe()} is removed: {found.times.describe()}")


@app.command(epilog="Example: facet schedule run 2")
def run(number: Number, as_json: JsonFlag = False) -> None:
    """Run a schedule now, whatever its times, and wait until it has ended; exit status 1 when it failed."""
    from worker.deployment.scheduled_work import actions
    from worker.schedules.runs import run_now

    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        with database.sessions.begin() as session:
            read_schedule(session, number)
        outcome = run_now(database.sessions, number, actions(config, database))
    if as_json:
        print_json({"schedule": number, "result": outcome.result})
    else:
        echo(f"schedule {number} has run: {outcome.result}")
