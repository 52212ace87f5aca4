"""Routes and what their handlers get: a visit is a request with its visitor, its desk and its checked form.

A handler is a plain function from a visit to a response; it runs in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.routing import Route

from worker.web.access.forgery import FORM_FIELD, FORM_HEADER, form_token, require_own_page, require_token
from worker.web.access.limits import MAX_FORM_BYTES, MAX_FORM_FIELDS, limited
from worker.web.access.visitor import Role, Visitor, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from worker.web.access.doors import Door
    from worker.web.desk import Desk

    Handler = Callable[["Visit"], Response]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request to a page."""

    request: Request
    form: FormData
    """Fields and files that were sent; empty for a page."""

    @property
    def desk(self) -> Desk:
        """The archive."""
        desk: Desk = self.request.app.state.desk
        return desk

    @property
    def door(self) -> Door:
        """The door that admitted the visitor."""
        door: Door = self.request.app.state.door
        return door

    @property
    def visitor(self) -> Visitor:
        """The user."""
        visitor: Visitor = self.request.state.visitor
        return visitor

    @property
    def form_token(self) -> str:
        """Token of this visitor's forms."""
        return form_token(self.door, self.visitor)

    @property
    def is_part(self) -> bool:
        """Whether htmx asks for a part of a page."""
        return self.request.headers.get("hx-request") == "true"

    def number(self, name: str) -> int:
        """Return a number in the path, as ``{name:int}`` of a route declares it."""
        return int(self.request.path_params[name])


def page(path: str, handler: Handler, role: Role = Role.READER) -> Route:
    """Return the route of a page, which changes nothing.

    Args:
        path: with parameters such as ``{person_id:int}``.
        handler: makes the response.
        role: that a visitor needs.
    """

    async def answer(request: Request) -> Response:
        require(request.state.visitor, role)
        return await run_in_threadpool(handler, Visit(request, FormData()))

    return Route(path, answer, methods=["GET"], name=handler.__name__)


def action(path: str, handler: Handler, role: Role = Role.REVIEWER, *, max_bytes: int = MAX_FORM_BYTES) -> Route:
    """Return the route of a form that changes something, or sends a file.

    Args:
        path: as for `page`.
        handler: makes the response: a redirect with status 303, or a part of a page.
        role: that a visitor needs.
        max_bytes: size of the form, files included.
    """

    async def answer(request: Request) -> Response:
        visitor: Visitor = request.state.visitor
        door: Door = request.app.state.door
        require(visitor, role)
        require_own_page(door, request)
        bounded = Request(request.scope, limited(request, max_bytes))
        async with bounded.form(max_files=1, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FORM_BYTES) as form:
            token = request.headers.get(FORM_HEADER) or form.get(FORM_FIELD, "")
            require_token(door, visitor, token if isinstance(token, str) else "")
            return await run_in_threadpool(handler, Visit(request, form))

    return Route(path, answer, methods=["POST"], name=handler.__name__)
