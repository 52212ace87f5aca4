"""Serves the page until it is stopped, and prints the link that opens it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import webbrowser
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import uvicorn

from worker.errors import UsageError
from worker.web.access.doors import TOKEN, LocalDoor, open_door
from worker.web.app import build_app
from worker.web.desk import open_desk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.config import Settings

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 60  # a browser fetches the pictures of the next page over the connections of the last
BACKLOG = 128


def serve_page(
    settings: Settings, host: str, port: int, *, show: Callable[[str], None], open_browser: bool = False
) -> None:
    """Serve the page until stopped.

    Args:
        settings: of the deployment.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        show: prints a line for the user.
        open_browser: open the link in the user's browser.

    Raises:
        UsageError: the page would be open to others, or the port is taken.
        FacetError: the archive cannot be opened.
    """
    with _closing_on_sigterm(), closing(_listen(host, port)) as listener:
        port = listener.getsockname()[1]
        base = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        door = open_door(settings, host, port, lambda token: show(f"for another browser: {base}?{TOKEN}={token}"))
        with open_desk(settings) as desk:
            link = f"{base}?{TOKEN}={door.token}" if isinstance(door, LocalDoor) else base
            show(f"open {link}" if isinstance(door, LocalDoor) else f"serving {link} to the proxy")
            if open_browser:
                webbrowser.open(link)
            _run(uvicorn.Server(_config(build_app(desk, door))), listener)


@contextmanager
def _closing_on_sigterm() -> Iterator[None]:
    """Close what is open at SIGTERM: uvicorn stops at it, and raises it again when it has stopped."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,  # addresses hold names that were searched for
        server_header=False,
        proxy_headers=False,  # the door reads them, from the proxies that it knows
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
        lifespan="off",
        ws="none",
    )


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve; a signal that comes while the event loop is made waits for it, since half a loop cannot be closed."""
    waiting: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: waiting.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }

    async def serve() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in waiting[:1]:
            signal.raise_signal(first)
        await server.serve(sockets=[listener])

    asyncio.run(serve())


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UsageError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as err:
        listener.close()
        raise UsageError(
            f"{host}:{port} cannot be listened on: {err.strerror or err}; expected a free port, such as "
            f"--port {port + 1}"
        ) from err
    return listener
