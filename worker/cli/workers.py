"""``facet worker``, ``beat`` and ``flower``, the processes of a deployment with a broker; ``facet web``, the page."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

import typer

from worker.cli.output.terminal import echo
from worker.config import settings
from worker.errors import UsageError
from worker.storage.home import make_home

PARTS_OF_THE_PAGE = ("jinja2", "multipart", "starlette", "uvicorn")


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
    app.command(epilog="Example: facet web --open")(web)


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


def web(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other than this machine's own needs FACET_WEB_PROXIES.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8750,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve the page on which people are looked at and corrected, until stopped (needs the extra called web).

    It prints a link whose token admits one browser, once. Behind a proxy that signs users in, it prints none.
    """
    missing = [name for name in PARTS_OF_THE_PAGE if find_spec(name) is None]
    if missing:
        raise UsageError(f"the page needs {', '.join(missing)}; install it: pip install 'facet[web]'")
    from worker.web.serve import serve_page

    serve_page(settings(), host, port, show=echo, open_browser=open_browser)
