"""``facet worker``, ``facet beat`` and ``facet flower``: the processes of a deployment with a broker."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from worker.config import settings
from worker.storage.home import make_home


class OnlyDuty(StrEnum):
    """The one duty of a worker that has not both."""

    analysis = "analysis"
    upkeep = "upkeep"


CheckFlag = Annotated[
    bool, typer.Option("--check", help="Only check that it runs on this host (exit status 1: it does not).")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: FACET_BROKER_URL=redis://localhost:6379/0 facet worker --concurrency 2")(worker)
    app.command(epilog="Example: FACET_BROKER_URL=redis://localhost:6379/0 facet beat")(beat)
    app.command(epilog="Example: FACET_BROKER_URL=redis://localhost:6379/0 facet flower --port 5555")(flower)


def worker(
    concurrency: Annotated[
        int, typer.Option(help="Number of processes, each with its own copy of the models.", min=1)
    ] = 1,
    only: Annotated[
        OnlyDuty | None,
        typer.Option(
            help="Only analyse (needs the models), or only do upkeep (wakes, erases, regroups); default: both."
        ),
    ] = None,
    check: CheckFlag = False,
) -> None:
    """Work on submitted jobs until stopped; start one per host or GPU.

    Exit status: 0 when stopped, 1 when it stalled (FACET_WATCH_SECONDS): start it again.
    """
    from worker.deployment import processes

    config = settings()
    make_home(config.home)
    if check:
        processes.check_worker(config)
    else:
        processes.run_worker(config, concurrency, ("analysis", "upkeep") if only is None else (only.value,))


def beat(check: CheckFlag = False) -> None:
    """Wake workers for units that wait, and schedule upkeep, every half minute; run one per deployment."""
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
