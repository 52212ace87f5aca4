"""``/health`` for supervisors, and the way from ``/`` to the people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route

from worker.web.visits import page

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from worker.web.visits import Visit


async def health(_request: Request) -> Response:
    """Answer that the server runs; needs no visitor and shows nothing."""
    return PlainTextResponse("ok")


def start(_visit: Visit) -> Response:
    """Lead to the first page."""
    return RedirectResponse("/people", 303)


ROUTES = [Route("/health", health, methods=["GET"]), page("/", start)]
