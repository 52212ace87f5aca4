"""Jobs: the list, one job with its progress, and pausing, resuming and cancelling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from db.status.jobs import list_job_ids
from worker.web.access.visitor import Role
from worker.web.background import Failed, Running
from worker.web.edits import jobs as edits
from worker.web.forms import whole_of
from worker.web.queries import jobs as queries
from worker.web.rendering import Note, done, part
from worker.web.rendering import page as render
from worker.web.visits import action, page

if TYPE_CHECKING:
    from worker.web.queries.jobs import JobDetail, JobLine
    from worker.web.visits import Visit

_POLL_SECONDS = 3


def job_list(visit: Visit) -> Response:
    """List the jobs, newest first."""
    before = whole_of(visit.request.query_params, "before", least=1)
    with visit.desk.database.sessions.begin() as session:
        numbers = list_job_ids(session, before=before, limit=queries.JOBS_PER_PAGE)
    lines = [line for number in numbers if (line := _line(visit, number)) is not None]
    is_live = any(queries.is_live(line.counts) for line in lines)
    older = numbers[-1] if len(numbers) == queries.JOBS_PER_PAGE else None
    values: dict[str, Any] = {
        "jobs": lines,
        "older": older,
        "is_live": is_live,
        "before": before,
        "poll": _POLL_SECONDS,
    }
    if visit.is_part:
        return part(visit, "jobs/list.html", "jobs", **values) if is_live else _reload()
    return render(visit, "jobs/list.html", **values)


def job(visit: Visit) -> Response:
    """Show one job."""
    found = _detail(visit, visit.number("job_id"))
    cancelling = visit.desk.background.state(_key(found.status.counts.job_id))
    is_cancelling = isinstance(cancelling, Running)
    values: dict[str, Any] = {
        "job": found,
        "counts": found.status.counts,
        "poll": _POLL_SECONDS,
        "is_live": found.is_live or is_cancelling,
        "cancelling": cancelling if is_cancelling else None,
        "failed": cancelling.message if isinstance(cancelling, Failed) else None,
    }
    if visit.is_part:
        return part(visit, "jobs/job.html", "progress", **values) if values["is_live"] else _reload()
    return render(visit, "jobs/job.html", **values)


def pause(visit: Visit) -> Response:
    """Pause a job."""
    number = visit.number("job_id")
    changed = edits.pause(visit.desk.database.sessions, number, visit.visitor.name)
    text = f"Job {number} is paused; units in flight end." if changed else f"Job {number} was paused already."
    return _back(visit, number, Note(text, undo=f"/jobs/{number}/resume" if changed else None))


def resume(visit: Visit) -> Response:
    """Resume a job."""
    number = visit.number("job_id")
    changed = edits.resume(visit.desk.database.sessions, number, visit.visitor.name)
    text = f"Job {number} goes on." if changed else f"Job {number} was not paused."
    return _back(visit, number, Note(text, undo=f"/jobs/{number}/pause" if changed else None))


def cancel(visit: Visit) -> Response:
    """Cancel a job, in the background: a large one takes minutes."""
    number = visit.number("job_id")
    _detail(visit, number)
    desk, name = visit.desk, visit.visitor.name
    began = desk.background.start(
        _key(number), lambda show: edits.cancel(desk.database.sessions, number, desk.crops, name, show)
    )
    text = f"Job {number} is being cancelled; stored results are kept." if began else "It is being cancelled already."
    return _back(visit, number, Note(text))


def _line(visit: Visit, number: int) -> JobLine | None:
    def read() -> JobLine | None:
        with visit.desk.database.sessions.begin() as session:
            return queries.read_line(session, number)

    return visit.desk.memo.read(("job line", number), read, keep_seconds=_keep)


def _keep(line: JobLine | None) -> float:
    return queries.KEEP_ENDED_SECONDS if line is not None and queries.has_ended(line.counts) else 1.0


def _detail(visit: Visit, number: int) -> JobDetail:
    def read() -> JobDetail | None:
        with visit.desk.database.sessions.begin() as session:
            return queries.read_detail(session, number)

    found = visit.desk.memo.read(("job", number), read)
    if found is None:
        raise HTTPException(404, f"there is no job {number}; Jobs lists those of this archive")
    return found


def _back(visit: Visit, number: int, note: Note) -> Response:
    for key in ("job", "job line"):
        visit.desk.memo.forget((key, number))
    return done(visit, note, default=f"/jobs/{number}")


def _key(number: int) -> tuple[str, int]:
    return "cancel", number


def _reload() -> Response:
    """Make htmx load the whole page: nothing changes any more, so it asks no further."""
    return Response(status_code=204, headers={"HX-Refresh": "true"})


ROUTES = [
    page("/jobs", job_list),
    page("/jobs/{job_id:int}", job),
    action("/jobs/{job_id:int}/pause", pause, Role.OPERATOR),
    action("/jobs/{job_id:int}/resume", resume, Role.OPERATOR),
    action("/jobs/{job_id:int}/cancel", cancel, Role.OPERATOR),
]
