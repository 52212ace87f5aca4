"""The application: routes of all areas behind the guard, static files, and errors as pages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from db.errors import DatabaseError, DatabaseUnreachable, QueryError
from worker.errors import FacetError, RetryableError, UsageError
from worker.masking import masked
from worker.storage.database import database_failure, is_unreachable
from worker.web.access.guard import Guard
from worker.web.access.visitor import VisitRefused
from worker.web.pages import all_routes
from worker.web.rendering import FOLDER, error_page

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Scope

    from worker.web.access.doors import Door
    from worker.web.desk import Desk

logger = logging.getLogger(__name__)

QUERY_CANCELED = "57014"
UNEXPECTED = "the server met an error that it does not know; its log has the details: repeat, or report it"


class KeptFiles(StaticFiles):
    """Static files, whose addresses hold a hash of their content, so that browsers need not ask again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def build_app(desk: Desk, door: Door) -> Starlette:
    """Return the application for an archive.

    Args:
        desk: the archive, open for as long as the application runs.
        door: decides who is behind a request.
    """
    app = Starlette(
        routes=[*all_routes(), Mount("/static", KeptFiles(directory=FOLDER / "static"), name="static")],
        middleware=[Middleware(Guard, door=door, refuse=refused)],
        exception_handlers={
            HTTPException: not_served,
            VisitRefused: refused,
            FacetError: failed,
            DatabaseError: failed,
            DBAPIError: database_failed,
            Exception: unexpected,
        },
    )
    app.state.desk, app.state.door = desk, door
    return app


def refused(request: Request, error: Exception) -> Response:
    """Answer a request that was refused."""
    status = error.status if isinstance(error, VisitRefused) else 403
    return error_page(request, status, str(error))


def not_served(request: Request, error: Exception) -> Response:
    """Answer a request for something that is not there, or that cannot be read."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else UNEXPECTED
    if status == 404 and detail == "Not Found":
        detail = "the address names nothing of this archive; it may have been erased or merged: start at People"
    return error_page(request, status, detail)


def failed(request: Request, error: Exception) -> Response:
    """Answer with an error of our own, whose text states what to do."""
    if isinstance(error, UsageError | QueryError):
        status = 400
    else:
        status = 503 if isinstance(error, RetryableError | DatabaseUnreachable) else 409
    return error_page(request, status, masked(str(error)))


def database_failed(request: Request, error: Exception) -> Response:
    """Answer with an error of the database: it is unreachable, or a question takes too long."""
    if not isinstance(error, DBAPIError):
        return unexpected(request, error)
    if getattr(error.orig, "sqlstate", None) == QUERY_CANCELED:
        return error_page(request, 503, "the archive needs too long for this; narrow the filters, then repeat")
    if is_unreachable(error):
        return error_page(request, 503, masked(str(database_failure(error))))
    facts = {"action": "page_failed", "error": masked(str(error.orig))}
    logger.error("a page failed in the database", exc_info=error, extra=facts)
    return error_page(request, 500, UNEXPECTED)


def unexpected(request: Request, _error: Exception) -> Response:
    """Answer with an error that the server logs."""
    return error_page(request, 500, UNEXPECTED)
