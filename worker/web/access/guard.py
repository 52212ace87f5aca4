"""The guard in front of all pages: admits visitors, and adds the headers that bind browsers.

Every response but those of ``/health`` and ``/static/`` needs a visitor, so a page that is added later does, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse

from worker.web.access.doors import TOKEN, LocalDoor
from worker.web.access.visitor import VisitRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from worker.web.access.doors import Door

OPEN = ("/health", "/static/")
"""Paths that show nothing of the archive; behind a slash, all below it."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
POLICY_WITH_PICTURES = POLICY.replace("img-src 'self'", "img-src 'self' data:")
"""Of a page that holds pictures itself, because no address has them."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware.

    Args:
        app: the pages.
        door: decides who is behind a request.
        refuse: makes the response to a refused request.
    """

    def __init__(self, app: ASGIApp, door: Door, refuse: Callable[[Request, VisitRefused], Response]) -> None:
        self.app, self.door, self.refuse = app, door, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its visitor, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        request = Request(scope)
        answer = self._answer(request)
        await (answer or self.app)(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """Return the response to a request that no page answers, and note the visitor of all others."""
        path = request.url.path
        if any(path == one or (one.endswith("/") and path.startswith(one)) for one in OPEN):
            return None
        try:
            if isinstance(self.door, LocalDoor) and request.method == "GET" and TOKEN in request.query_params:
                return self._exchange(self.door, request)
            request.state.visitor = self.door.admit(request)
        except VisitRefused as err:
            return self.refuse(request, err)
        return None

    def _exchange(self, door: LocalDoor, request: Request) -> Response:
        """Exchange the token for a cookie, and take it out of the address; a known browser needs no token."""
        value = door.redeem(request.query_params[TOKEN])
        if value is None:
            door.admit(request)
        others = [(name, text) for name, text in request.query_params.multi_items() if name != TOKEN]
        path = "/" + request.url.path.lstrip("/")
        response = RedirectResponse(f"{path}?{urlencode(others)}" if others else path, 303)
        if value is not None:
            response.set_cookie(door.cookie, value, httponly=True, samesite="lax", path="/")
        return response
