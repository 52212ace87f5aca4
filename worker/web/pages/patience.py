"""Pages that wait for a query of a visitor: it ends when the visitor leaves."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.routing import Route

from db.reader.cancelling import cancel_query
from worker.web.access.visitor import Role, require
from worker.web.visits import Visit

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

LEFT_SECONDS = 0.25  # between two looks whether the visitor still waits


def patient_page(path: str, handler: Callable[[Visit, str], Response], role: Role = Role.READER) -> Route:
    """Return the route of a page whose query is cancelled when its visitor leaves.

    Args:
        path: as for ``visits.page``.
        handler: makes the response; its second argument is the name under which it runs its query.
        role: that a visitor needs.
    """

    async def answer(request: Request) -> Response:
        require(request.state.visitor, role)
        visit, name = Visit(request, FormData()), f"facet web {secrets.token_hex(8)}"
        work = asyncio.ensure_future(run_in_threadpool(handler, visit, name))
        while not work.done():
            await asyncio.wait({work}, timeout=LEFT_SECONDS)
            if not work.done() and await request.is_disconnected():
                await run_in_threadpool(cancel_query, visit.desk.reader_url, name)
        return await work

    return Route(path, answer, methods=["GET"], name=handler.__name__)
