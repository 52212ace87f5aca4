"""Routes, one module an area: each reads a request, calls a query or an edit, and renders a template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.web.pages import ask, crops, deployment, health, jobs, person, releases, same
from worker.web.pages.media import content, file, listing
from worker.web.pages.people import ROUTES as PEOPLE
from worker.web.pages.report import routes as reports

if TYPE_CHECKING:
    from starlette.routing import Route

AREAS = (health, crops, person, same, listing, file, content, reports, jobs, releases, deployment, ask)
"""Modules with ``ROUTES``; an area is added here."""


def all_routes() -> list[Route]:
    """Return the routes of all areas."""
    return [*PEOPLE, *(route for area in AREAS for route in area.ROUTES)]
