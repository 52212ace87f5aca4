"""The pages of one person: faces, times, company, corrections, and forgetting."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from worker.errors import UsageError
from worker.visible import visible
from worker.web.access.visitor import Role
from worker.web.edits import corrections as edits
from worker.web.edits import forget as erasure
from worker.web.forms import choice_of, numbers_of, text_of, whole_of
from worker.web.pages.people import MAX_PERSON_NAME
from worker.web.queries.person.company import read_company
from worker.web.queries.person.faces import MAX_GROUPED, MAX_RANKED, FacePlace, face_groups, furthest_faces
from worker.web.queries.person.facts import merged_into, read_person_facts, suggest_names
from worker.web.queries.person.history import read_corrections_of
from worker.web.queries.person.times import read_times
from worker.web.rendering import Note, done
from worker.web.rendering import page as render
from worker.web.visits import action, page

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from starlette.responses import Response

    from worker.web.edits.corrections import Edited
    from worker.web.queries.person.facts import PersonFacts
    from worker.web.visits import Visit

ORDERS = ("furthest", "groups")
SHOWN = ("face", "frame")


def person_faces(visit: Visit) -> Response:
    """Show the faces of a person, those that may be someone else's first."""
    query = visit.request.query_params
    order, shown = choice_of(query, "order", ORDERS) or ORDERS[0], choice_of(query, "show", SHOWN) or SHOWN[0]
    with visit.desk.reading() as connection:
        person = _person(connection, visit.number("person_id"))
        if isinstance(person, RedirectResponse):
            return person
        groups = face_groups(connection, person.person_id) if order == "groups" else []
        found = None if groups else furthest_faces(connection, person.person_id, _place(query.get("after")))
    return render(
        visit, "person/faces.html", person=person, order=order, shown=shown, groups=groups, found=found,
        query=dict(query), has_frames=_has_frames(visit), compared=MAX_GROUPED if groups else MAX_RANKED,
    )  # fmt: skip


def person_times(visit: Visit) -> Response:
    """Show where and when a person is in view."""
    after = whole_of(visit.request.query_params, "after") or 0
    return _show(visit, "person/times.html", lambda connection, number: {
        "found": read_times(connection, number, after), "is_first": not after,
    })  # fmt: skip


def person_company(visit: Visit) -> Response:
    """Show the people who are in view together with a person."""
    return _show(visit, "person/company.html", lambda connection, number: {"found": read_company(connection, number)})


def person_history(visit: Visit) -> Response:
    """Show the corrections of a person."""
    before = whole_of(visit.request.query_params, "before", least=1)

    def read(connection: Connection, number: int) -> dict[str, object]:
        found, following = read_corrections_of(connection, number, before)
        return {"found": found, "following": following}

    return _show(visit, "person/history.html", read)


def name_options(visit: Visit) -> Response:
    """Suggest names that contain what was typed, as options of a list."""
    typed = text_of(visit.request.query_params, "name", limit=MAX_PERSON_NAME)
    with visit.desk.reading() as connection:
        found = suggest_names(connection, typed) if typed else []
    return render(visit, "person/names.html", found=found)


def exclude_form(visit: Visit) -> Response:
    """Take the chosen faces out of a person."""
    return _with_faces(visit, edits.exclude_faces)


def split_form(visit: Visit) -> Response:
    """Make the chosen faces a new person."""
    return _with_faces(visit, edits.split_faces)


def undo_form(visit: Visit) -> Response:
    """Undo a correction."""
    number, user = visit.number("correction_id"), visit.visitor.name
    return _edited(visit, visit.desk.edit(lambda session: edits.take_back(session, number, made_by=user)))


def forget_page(visit: Visit) -> Response:
    """Show what the erasure of a person would erase."""
    with visit.desk.reading() as connection:
        person = _required(connection, visit.number("person_id"))
    receipt = erasure.preview_erasure(visit.desk, person.person_id)
    return render(visit, "person/forget.html", person=person, receipt=receipt, expected=_confirmation(person))


def forget_form(visit: Visit) -> Response:
    """Erase a person, and show the receipt."""
    with visit.desk.reading() as connection:
        person = _required(connection, visit.number("person_id"))
    typed = text_of(visit.form, "confirm", limit=MAX_PERSON_NAME)
    receipt = erasure.erase_for_good(visit.desk, person.person_id, typed, _confirmation(person))
    document = json.dumps(receipt.as_dict(), indent=2)
    return render(visit, "person/forgotten.html", number=person.person_id, receipt=receipt, document=document)


def _show(visit: Visit, template: str, read: Callable[[Connection, int], dict[str, Any]]) -> Response:
    with visit.desk.reading() as connection:
        person = _person(connection, visit.number("person_id"))
        if isinstance(person, RedirectResponse):
            return person
        values = read(connection, person.person_id)
    return render(visit, template, person=person, **values)


def _person(connection: Connection, person_id: int) -> PersonFacts | RedirectResponse:
    """Return a person, or the way to the one that it was merged into."""
    found = read_person_facts(connection, [person_id]).get(person_id)
    if found is not None:
        return found
    other = merged_into(connection, person_id)
    if other is None:
        raise HTTPException(404)
    return RedirectResponse(f"/people/{other}", 303)


def _required(connection: Connection, person_id: int) -> PersonFacts:
    found = read_person_facts(connection, [person_id]).get(person_id)
    if found is None:
        raise HTTPException(404)
    return found


def _place(given: str | None) -> FacePlace | None:
    """Read where a page begins.

    Raises:
        UsageError: it is no place that a page was given as a link.
    """
    if not given:
        return None
    likeness, _, appearance = given.partition(",")
    try:
        return FacePlace(float(likeness), int(appearance))
    except ValueError as err:
        raise UsageError(f"after is {visible(given)}, expected a place such as 0.51234,12; start again") from err


def _with_faces(visit: Visit, edit: Callable[..., Edited]) -> Response:
    number, chosen = visit.number("person_id"), numbers_of(visit.form, "appearance")
    if not chosen:
        raise UsageError("no face was chosen, expected some faces of the person; choose them first")
    user = visit.visitor.name
    return _edited(visit, visit.desk.edit(lambda session: edit(session, number, chosen, made_by=user)))


def _edited(visit: Visit, edited: Edited) -> Response:
    undo_at = None if edited.correction_id is None else f"/corrections/{edited.correction_id}/undo"
    return done(visit, Note(edited.text, undo_at))


def _confirmation(person: PersonFacts) -> str:
    return visible(person.name) if person.name else f"person {person.person_id}"


def _has_frames(visit: Visit) -> bool:
    """Whether this server shows whole frames."""
    return any(getattr(route, "path", "") == "/media/{media_id:int}/frame" for route in visit.request.app.routes)


ROUTES = [
    page("/people/{person_id:int}", person_faces),
    page("/people/{person_id:int}/times", person_times),
    page("/people/{person_id:int}/company", person_company),
    page("/people/{person_id:int}/history", person_history),
    page("/people/{person_id:int}/forget", forget_page, Role.OPERATOR),
    page("/names", name_options),
    action("/people/{person_id:int}/exclude", exclude_form),
    action("/people/{person_id:int}/split", split_form),
    action("/people/{person_id:int}/forget", forget_form, Role.OPERATOR),
    action("/corrections/{correction_id:int}/undo", undo_form),
]
