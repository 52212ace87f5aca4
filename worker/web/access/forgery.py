"""Tokens of forms: a request that changes something comes from a page of ours, opened by the same visitor."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from worker.web.access.visitor import VisitRefused

if TYPE_CHECKING:
    from starlette.requests import Request

    from worker.web.access.doors import Door
    from worker.web.access.visitor import Visitor

FORM_FIELD = "csrf"
FORM_HEADER = "X-CSRF-Token"


def form_token(door: Door, visitor: Visitor) -> str:
    """Return the token that a visitor's forms carry."""
    return hmac.new(door.key, b"form " + visitor.session.encode(), hashlib.sha256).hexdigest()


def require_own_page(door: Door, request: Request) -> None:
    """Check where a browser says that a request comes from.

    Raises:
        VisitRefused: from a page of another site.
    """
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or (origin is not None and urlsplit(origin).netloc != door.host(request)):
        raise VisitRefused(f"the request came from {origin or 'another site'}, expected a page of this server")


def require_token(door: Door, visitor: Visitor, given: str) -> None:
    """Check the token of a form.

    Raises:
        VisitRefused: it is missing or another one.
    """
    if not hmac.compare_digest(given.encode(), form_token(door, visitor).encode()):
        raise VisitRefused("the form is older than this server, or not of this page; load the page again, then repeat")
