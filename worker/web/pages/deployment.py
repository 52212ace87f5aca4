"""The findings of ``facet doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import RedirectResponse, Response

from worker.deployment.doctor import examine_deployment
from worker.web.access.visitor import Role
from worker.web.background import Ended, Failed, Running
from worker.web.rendering import page as render
from worker.web.rendering import part
from worker.web.visits import action, page

if TYPE_CHECKING:
    from worker.web.visits import Visit

_POLL_SECONDS = 1
KEY = "doctor"


def deployment(visit: Visit) -> Response:
    """Show the findings; the first visit begins the checks."""
    background = visit.desk.background
    if background.state(KEY) is None:
        _begin(visit)
    state = background.state(KEY)
    is_running = isinstance(state, Running)
    values: dict[str, Any] = {
        "is_running": is_running,
        "poll": _POLL_SECONDS,
        "failed": state.message if isinstance(state, Failed) else None,
    }
    if visit.is_part:
        reload = Response(status_code=204, headers={"HX-Refresh": "true"})
        return part(visit, "deployment/findings.html", "running", **values) if is_running else reload
    findings = state.value if isinstance(state, Ended) else []
    return render(visit, "deployment/findings.html", **values, state=state, findings=findings)


def check(visit: Visit) -> Response:
    """Begin the checks again."""
    _begin(visit)
    return RedirectResponse("/deployment", 303)


def _begin(visit: Visit) -> None:
    settings = visit.desk.settings
    visit.desk.background.start(KEY, lambda _: examine_deployment(settings))


ROUTES = [page("/deployment", deployment, Role.OPERATOR), action("/deployment", check, Role.OPERATOR)]
