"""Releases: the list, one release with its gate, comparisons, and switching the views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from worker.errors import UsageError
from worker.releases.diff.page import sections
from worker.storage.release_store import ReleaseStore
from worker.web.access.visitor import Role
from worker.web.background import Ended, Failed, Running
from worker.web.edits import releases as edits
from worker.web.forms import text_of, whole_of
from worker.web.pages.crops import crop_picture
from worker.web.queries import releases as queries
from worker.web.rendering import Note, done, part
from worker.web.rendering import page as render
from worker.web.visits import action, page

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from worker.releases.catalogue import ReleaseCost
    from worker.releases.diff.report import ReleaseDiff
    from worker.web.background import Progress, State
    from worker.web.queries.releases import ReleaseDetail
    from worker.web.visits import Visit

_POLL_SECONDS = 2
SWITCH = "switch"
"""Key of the one switch that may be going on."""


def release_list(visit: Visit) -> Response:
    """List the releases."""
    with visit.desk.database.sessions.begin() as session:
        has_previous = queries.has_previous(session)
    values: dict[str, Any] = {"releases": _costs(visit), "has_previous": has_previous} | _switch(visit)
    if visit.is_part:
        return part(visit, "releases/list.html", "switching", **values) if values["is_switching"] else _reload()
    return render(visit, "releases/list.html", **values)


def release(visit: Visit) -> Response:
    """Show one release."""
    number = visit.number("release_id")
    found, gate = _detail(visit, number), visit.desk.background.state(("gate", number))
    values: dict[str, Any] = {"release": found, "cost": found.cost, **_work("gate", gate)} | _switch(visit)
    if visit.is_part:
        is_busy = values["is_switching"] or values["is_gate_running"]
        return part(visit, "releases/release.html", "busy", **values) if is_busy else _reload()
    return render(visit, "releases/release.html", **values)


def gate(visit: Visit) -> Response:
    """Ask the gate, in the background."""
    number, sessions = visit.number("release_id"), visit.desk.database.sessions
    visit.desk.background.start(("gate", number), lambda _: edits.ask_gate(sessions, number))
    return done(visit, Note("The gate compares the releases; this page shows its answer."), default=_address(number))


def activate(visit: Visit) -> Response:
    """Switch the views to a release, in the background: the gate looks at every face."""
    number, reason, is_forced = visit.number("release_id"), text_of(visit.form, "reason"), "force" in visit.form
    _detail(visit, number)
    if is_forced and not reason:
        raise UsageError("the gate is passed over only with a reason, which the history of releases keeps; give one")
    return _begin(visit, lambda: edits.switch_to(_sessions(visit), number, visit.visitor.name, reason, force=is_forced))


def roll_back(visit: Visit) -> Response:
    """Switch the views back."""
    reason = text_of(visit.form, "reason")
    return _begin(visit, lambda: edits.go_back(_sessions(visit), visit.visitor.name, reason))


def choose(visit: Visit) -> Response:
    """Lead to the comparison of two releases."""
    before, after = (whole_of(visit.request.query_params, name, least=1) for name in ("before", "after"))
    if before is None or after is None or before == after:
        raise UsageError("a comparison has one release, or none; expected two different ones: choose them")
    return RedirectResponse(_diff_address(before, after), 303)


def diff(visit: Visit) -> Response:
    """Show the comparison of two releases, how far it is, or how to begin it."""
    before, after = _both(visit)
    state = visit.desk.background.state(_diff_key(before, after))
    names = {one.release_id: one.release for one in _costs(visit)}
    if before not in names or after not in names:
        raise HTTPException(404, "there is no such release; Releases lists those of this archive")
    values: dict[str, Any] = {
        "before": before,
        "after": after,
        "names": names,
        "address_here": _diff_address(before, after),
    }
    values |= _work("diff", state)
    if visit.is_part:
        return part(visit, "releases/diff.html", "running", **values) if values["is_diff_running"] else _reload()
    found: ReleaseDiff | None = state.value if isinstance(state, Ended) else None
    return render(
        visit,
        "releases/diff.html",
        **values,
        found=found,
        sections=() if found is None else sections(found),
        movers=[] if found is None else [(place, one) for place, one in enumerate(found.movers) if one.crop_uri],
    )


def compare(visit: Visit) -> Response:
    """Begin the comparison of two releases."""
    before, after = _both(visit)
    sessions = _sessions(visit)
    visit.desk.background.start(_diff_key(before, after), lambda _: edits.compare_releases(sessions, before, after))
    return RedirectResponse(_diff_address(before, after), 303)


def mover_crop(visit: Visit) -> Response:
    """Return the crop of a face of a comparison; the views do not show the faces of other releases."""
    state = visit.desk.background.state(_diff_key(*_both(visit)))
    movers = state.value.movers if isinstance(state, Ended) else ()
    place = visit.number("place")
    if place >= len(movers) or movers[place].crop_uri is None:
        raise HTTPException(404, "there is no such picture; compare the releases again")
    return crop_picture(visit, movers[place].crop_uri, movers[place].crop_index)


def _begin(visit: Visit, work: Callable[[], str]) -> Response:
    memo = visit.desk.memo

    def switch(_show: Progress) -> str:
        name = work()
        memo.forget("releases")
        return name

    began = visit.desk.background.start(SWITCH, switch)
    text = "The views are being switched." if began else "The views are being switched already; wait for it."
    return done(visit, Note(text), default="/releases")


def _switch(visit: Visit) -> dict[str, Any]:
    state = visit.desk.background.state(SWITCH)
    return {"poll": _POLL_SECONDS} | _work("switch", state) | {"is_switching": isinstance(state, Running)}


def _work(name: str, state: State | None) -> dict[str, Any]:
    return {
        f"is_{name}_running": isinstance(state, Running),
        f"{name}_state": state,
        f"{name}_failed": state.message if isinstance(state, Failed) else None,
        f"{name}_value": state.value if isinstance(state, Ended) else None,
        f"has_{name}": isinstance(state, Ended),
        "poll": _POLL_SECONDS,
    }


def _costs(visit: Visit) -> tuple[ReleaseCost, ...]:
    def read() -> tuple[ReleaseCost, ...]:
        with visit.desk.database.sessions.begin() as session:
            return queries.list_releases(session, _store(visit))

    return visit.desk.memo.read("releases", read, keep_seconds=lambda _: queries.KEEP_COSTS_SECONDS)


def _detail(visit: Visit, number: int) -> ReleaseDetail:
    with visit.desk.database.sessions.begin() as session:
        found = queries.read_release_detail(session, _store(visit), number)
    if found is None:
        raise HTTPException(404, f"there is no release {number}; Releases lists those of this archive")
    return found


def _both(visit: Visit) -> tuple[int, int]:
    return visit.number("before"), visit.number("after")


def _diff_key(before: int, after: int) -> tuple[str, int, int]:
    return "diff", before, after


def _diff_address(before: int, after: int) -> str:
    return f"/releases/{before}/diff/{after}"


def _address(number: int) -> str:
    return f"/releases/{number}"


def _sessions(visit: Visit) -> sessionmaker[Session]:
    return visit.desk.database.sessions


def _store(visit: Visit) -> ReleaseStore:
    return ReleaseStore(visit.desk.settings.releases)


def _reload() -> Response:
    return Response(status_code=204, headers={"HX-Refresh": "true"})


ROUTES = [
    page("/releases", release_list),
    page("/releases/compare", choose),
    page("/releases/{release_id:int}", release),
    action("/releases/{release_id:int}/gate", gate, Role.REVIEWER),
    action("/releases/{release_id:int}/activate", activate, Role.OPERATOR),
    action("/releases/rollback", roll_back, Role.OPERATOR),
    page("/releases/{before:int}/diff/{after:int}", diff),
    action("/releases/{before:int}/diff/{after:int}", compare, Role.REVIEWER),
    page("/releases/{before:int}/diff/{after:int}/{place:int}.jpg", mover_crop),
]
