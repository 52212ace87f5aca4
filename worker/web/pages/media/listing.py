"""The list of videos and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from db.schema.tables import ANALYSIS_STATES
from worker.errors import UsageError
from worker.web.forms import choice_of, text_of, whole_of
from worker.web.queries.media_list import MediaFilter, list_media
from worker.web.rendering import page as render
from worker.web.visits import page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from worker.types import MediaKind
    from worker.web.visits import Visit

KINDS = ("video", "image")


def media(visit: Visit) -> Response:
    """Show a page of the list."""
    query = visit.request.query_params
    wanted = _filter(query)
    with visit.desk.reading() as connection:
        found = list_media(connection, wanted, after=whole_of(query, "after"))
    return render(
        visit,
        "media/list.html",
        found=found,
        wanted=wanted,
        query=dict(query),
        states=ANALYSIS_STATES,
        is_filtered=bool(wanted.conditions()) or wanted.job_id is not None,
    )


def _filter(query: Mapping[str, str]) -> MediaFilter:
    """Read the filter from the address.

    Raises:
        UsageError: a value is none that a filter has.
    """
    reason = text_of(query, "reason", limit=100)
    if reason is not None and not reason.replace("_", "").isalnum():
        raise UsageError(f"reason is {reason}, expected a code such as truncated (docs/reasons.md); correct it")
    return MediaFilter(
        status=choice_of(query, "status", ANALYSIS_STATES),
        reason=reason,
        kind=cast("MediaKind | None", choice_of(query, "kind", KINDS)),
        job_id=whole_of(query, "job", least=1),
        is_empty=choice_of(query, "empty", ("1",)) is not None,
        name=text_of(query, "name"),
    )


ROUTES = [page("/media", media)]
