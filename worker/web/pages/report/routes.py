"""Reports as pages and as downloads: ``/report/job/12``, ``/report/media/3``, ``/report/person/5``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from worker.errors import UsageError
from worker.web.forms import choice_of
from worker.web.pages.report.reading import read_report
from worker.web.pages.report.writing import write_report
from worker.web.queries.report.scope import ReportKind, ReportScope
from worker.web.rendering import page as render
from worker.web.visits import page

if TYPE_CHECKING:
    from starlette.responses import Response

    from worker.web.pages.report.reading import Report
    from worker.web.queries.report.people import Moment
    from worker.web.visits import Visit

_REPORT_SECONDS = 60.0  # longest statement: the counts of a large job read all of its files


def report(visit: Visit) -> Response:
    """Show a report, or send it as a file."""
    kind = visit.request.path_params["kind"]
    if kind not in get_args(ReportKind):
        raise HTTPException(404)
    scope = ReportScope(cast("ReportKind", kind), visit.number("number"))
    with visit.desk.reading(_REPORT_SECONDS) as connection:
        try:
            found = read_report(connection, scope)
        except UsageError as err:
            raise HTTPException(404, str(err)) from err
        if choice_of(visit.request.query_params, "as", ("file",)):
            return _file(found, write_report(connection, found, visit.desk.crops))
    return render(visit, "report/page.html", report=found, face=_face_address, link=_moment_address)


def _file(found: Report, html: str) -> Response:
    name = f"facet-{found.scope.kind}-{found.scope.number}.html"
    return HTMLResponse(
        html,
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox",
        },
    )


def _face_address(face_id: int | None) -> str | None:
    return None if face_id is None else f"/faces/{face_id}.jpg?size=112"


def _moment_address(moment: Moment) -> str:
    return f"/media/{moment.media_id}?at={moment.start_seconds:.3f}"


ROUTES = [page("/report/{kind}/{number:int}", report)]
