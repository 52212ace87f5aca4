"""``facet worker``, ``facet beat`` and ``facet flower``: the processes of a deployment with a broker."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from worker.config import settings
from worker.storage.home import make_home


class Work(StrEnum):
    """What a worker may be kept to."""

    analysis = "analysis"
    upkeep = "upkeep"


Check = Annotated[
    bool, typer.Option("--check", help="Only say whether the one on this host lives (exit status 1: no).")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: FACET_BROKER_URL=redis://localhost:6379/0 facet worker --concurrency 2")(worker)
    app.command(epilog="Example: FACET_BROKER_URL=redis://localhost:6379/0 facet beat")(beat)
    app.command(epilog="Example: FACET_BROKER_URL=redis://localhost:6379/0 facet flower --port 5555")(flower)


def worker(
    concurrency: Annotated[int, typer.Option(help="Processes, each with a network of its own.", min=1)] = 1,
    only: Annotated[
        Work | None,
        typer.Option(
            help="Take only analysis (needs the network), or upkeep (rings, erases, regroups); default: both."
        ),
    ] = None,
    check: Check = False,
) -> None:
    """Work on submitted jobs until stopped; start one per host or GPU.

    Exit status: 0 when stopped, 1 when it took no messages any more (FACET_WATCH_SECONDS): start it again.
    """
    from worker.deployment import processes

    config = settings()
    make_home(config.home)
    if check:
        processes.check_worker(config)
    else:
        processes.run_worker(config, concurrency, ("analysis", "upkeep") if only is None else (only.value,))


def beat(check: Check = False) -> None:
    """Ring for work that was forgotten, every half minute; one per deployment."""
    from worker.deployment import processes

    config = settings()
    make_home(config.home)
    if check:
        processes.check_beat(config)
    else:
        processes.run_beat(config)


def flower(
    port: Annotated[int, typer.Option(help="Port of the page.", min=1, max=65535)] = 5555,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve Celery's monitoring page (needs the extra called monitor)."""
    from worker.deployment import processes

    processes.run_flower(settings(), address, port)
