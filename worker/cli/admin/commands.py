"""``facet db`` and ``facet doctor``: the state of a deployment."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.admin.backup import dump, restore
from worker.cli.admin.serving import serve, stop
from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table
from worker.config import settings
from worker.storage.database import database_address, masked_url, open_database, reader_address, require_access
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.cli.output.rows import Rows
    from worker.config import Settings
    from worker.deployment.doctor import Finding

database = typer.Typer(help="The database: upgrade it, check it, print its address.", no_args_is_help=True)


database.command(epilog="Example: facet db serve --port 5433 --for 8h")(serve)
database.command(epilog="Example: facet db stop")(stop)
database.command(epilog="Example: facet db dump /backup/facet-2026-11-28")(dump)
database.command(epilog="Example: FACET_HOME=/new/home facet db restore /backup/facet-2026-11-28")(restore)


def add_commands(app: typer.Typer) -> None:
    """Add the commands that stand alone."""
    app.command(epilog="Example: facet doctor")(doctor)


@database.command(epilog="Example: FACET_DATABASE_URL=postgresql://facet@db/facet facet db upgrade")
def upgrade() -> None:
    """Create or update tables, views and roles."""
    from db.schema import migrate

    config = settings()
    make_home(config.home)
    with database_address(config) as url:
        state = migrate.upgrade(url)
        echo(f"{masked_url(url)} is at revision {state.found}")


@database.command(epilog="Example: facet db check --rows")
def check(
    rows: Annotated[
        bool,
        typer.Option(
            "--rows",
            help="Also compare releases, layers, derived rows, totals of people and the release store: every row and "
            "byte is read.",
        ),
    ] = False,
) -> None:
    """Check that the database answers and has this program's tables and roles; exit status 1 when not.

    With --rows, each contradiction is a line, and the exit status is 1 where there is one. Workers may go on meanwhile.
    """
    from db.schema import migrate

    config = settings()
    make_home(config.home)
    with database_address(config) as url:
        migrate.require_current(url)
        require_access(url)
        echo(f"{masked_url(url)} answers, and its tables are current")
        if rows:
            _check_rows(config, url)


def _check_rows(config: Settings, url: str) -> None:
    from sqlalchemy.orm import Session

    from db.engine import make_engine
    from worker.releases.consistency import find_contradictions
    from worker.storage.release_store import ReleaseStore

    with ExitStack() as opened:
        engine = make_engine(url)
        opened.callback(engine.dispose)
        session = opened.enter_context(Session(engine))
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})  # all of one moment
        found = find_contradictions(session, ReleaseStore(config.releases))
    for one in found:
        echo(one)
    if found:
        raise typer.Exit(1)
    echo("releases, their rows, totals of people and the release store agree")


@database.command(epilog="Example: facet db index")
def index(
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop the index: searches compare with all people again.")
    ] = False,
) -> None:
    """Index appearances for `facet search` while workers go on; worthwhile from about 300,000 appearances."""
    from db.schema import search_index as nearest

    config = settings()
    make_home(config.home)
    with open_database(config) as opened:
        if drop:
            nearest.drop_index(opened.url)
        else:
            nearest.build_index(opened.url)
    echo("the index of appearances is " + ("dropped" if drop else "made"))


@database.command(epilog='Example: psql "$(facet db url --libpq)"')
def url(
    libpq: Annotated[bool, typer.Option("--libpq", help="Print it in the form of psql, with the password.")] = False,
    reader: Annotated[bool, typer.Option("--reader", help="Print that of the user who may only read views.")] = False,
) -> None:
    """Print the address of the database; the embedded one runs on for 5 minutes after its last use.

    `facet db serve` keeps it running, also on a port.
    """
    from db.schema import migrate

    config = settings()
    make_home(config.home)
    with database_address(config) as address:
        if config.database_url is None:
            migrate.upgrade(address)  # psql is to find the views also in a new home
        shown = reader_address(config, address) if reader else address
        echo(shown.replace("postgresql+psycopg://", "postgresql://") if libpq else masked_url(shown))


def doctor(
    crops: Annotated[bool, typer.Option("--crops", help="Also compare the whole crop store with the rows.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check settings, disk, database, broker, weights and device, and print remedies; exit status 1 on a failure."""
    from worker.deployment.doctor import examine_crops, examine_deployment

    findings = examine_deployment(settings())
    findings += [examine_crops(settings())] if crops else []
    if as_json:
        print_json([{"what": f.subject, "ok": f.ok, "found": f.found} for f in findings])
    else:
        console().print(draw_findings(findings))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def draw_findings(findings: Sequence[Finding]) -> Rows:
    """Lay out the findings."""
    return table("Doctor", ("what", "state", "found"), [_row(finding) for finding in findings], prose=("found",))


def _row(finding: Finding) -> tuple[str, str, str]:
    return finding.subject, "ok" if finding.ok else "FAILS", finding.found
