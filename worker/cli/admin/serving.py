"""``facet db serve`` and ``facet db stop``: the embedded server for programs other than Facet."""

from __future__ import annotations

import re
import signal
import threading
from typing import Annotated

import typer

from worker.cli.output.terminal import echo
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import embedded_server, open_database
from worker.storage.home import make_home

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
OWN_SERVER = "FACET_DATABASE_URL names a server of your own; expected the embedded one: unset it, or use that server"


def parse_period(value: str) -> float:
    """Return the seconds of a period such as 90s, 30m, 8h or 2d.

    Raises:
        UsageError: it is no period.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"--for {value} is no period; expected a number with s, m, h or d, such as 8h")
    return float(found[1]) * UNIT_SECONDS[found[2]]


def serve(
    port: Annotated[
        int | None,
        typer.Option(help="Also admit readers, by password, on this port of this host.", min=1, max=65535),
    ] = None,
    period: Annotated[
        str | None, typer.Option("--for", help="End after a period such as 30m, 8h or 2d; default: run until Ctrl-C.")
    ] = None,
) -> None:
    """Run the embedded database for psql, notebooks and BI tools, and print its addresses.

    Facet's own commands use it at the same time. Without a port, it is reached by its socket, which the owner of
    the home alone may open. On the port, the user facet_reader may read the views.
    """
    seconds = None if period is None else parse_period(period)
    config = settings()
    if config.database_url is not None:
        raise UsageError(OWN_SERVER)
    make_home(config.home)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with embedded_server(config, port=port) as server:
        with open_database(config) as opened:
            echo(f"owner:  {_libpq(opened.url)}")
        echo(f"reader: {_libpq(server.reader_url if port is None else server.network_url)}")
        echo(f"serving {'until Ctrl-C' if period is None else f'for {period}, or until Ctrl-C'}", err=True)
        ended.wait(seconds)


def stop(
    force: Annotated[bool, typer.Option("--force", help="Stop it even while programs use it.")] = False,
) -> None:
    """Stop the embedded database, which runs on for some minutes after its last use.

    Exit status: 0 also when it did not run, 2 when programs use it.
    """
    from db.errors import DatabaseInUse
    from db.server.embedded import EmbeddedPostgres

    config = settings()
    if config.database_url is not None:
        raise UsageError(OWN_SERVER)
    server = EmbeddedPostgres(config.home / "postgres")
    try:
        stopped = server.stop() if force else server.stop_unused()
    except DatabaseInUse as err:
        raise UsageError("programs use the embedded database; end them first, or pass --force") from err
    echo("the embedded database is stopped" if stopped else "the embedded database does not run")


def _libpq(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")
