"""``/people``: the grid of people, and what is done with those that are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from worker.visible import counted, visible
from worker.web.edits.people import hide, merge_chosen, name_chosen, undo, unhide
from worker.web.forms import choice_of, local_address, numbers_of, text_of, whole_of
from worker.web.pages.search import ROUTES as SEARCH_ROUTES
from worker.web.queries.person.facts import read_person_facts
from worker.web.queries.person.people import (
    NAMINGS,
    PEOPLE_ORDERS,
    PeopleFilter,
    called,
    list_jobs,
    list_people,
    names_like,
)
from worker.web.rendering import Note, done
from worker.web.rendering import page as rendered
from worker.web.visits import action, page

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.responses import Response

    from worker.web.visits import Visit

_GENDERS = ("female", "male", "unknown")
_CHOSEN = "person"
_MAX_AGE = 150
MAX_PERSON_NAME = 200  # characters of a person's name
MAX_NAMESAKES = 6  # people of one name who are shown beside each other


def people(visit: Visit) -> Response:
    """Show a page of the grid."""
    query = visit.request.query_params
    wanted = read_filter(query)
    with visit.desk.reading() as connection:
        found = list_people(connection, wanted, text_of(query, "after"))
        jobs = list_jobs(connection)
    return rendered(
        visit, "people/list.html", wanted=wanted, found=found, jobs=jobs, query=dict(query), genders=_GENDERS
    )


def read_filter(query: QueryParams) -> PeopleFilter:
    """Return the filter that an address states.

    Raises:
        UsageError: a value of it cannot be used.
    """
    return PeopleFilter(
        query=text_of(query, "q", limit=200),
        naming=choice_of(query, "naming", NAMINGS),
        unsure=choice_of(query, "unsure", ("1",)) is not None,
        hidden=choice_of(query, "hidden", ("1",)) is not None,
        job=whole_of(query, "job"),
        folder=text_of(query, "folder"),
        year=whole_of(query, "year", least=1, most=9999),
        gender=choice_of(query, "gender", _GENDERS),
        age_from=whole_of(query, "age_from", most=_MAX_AGE),
        age_to=whole_of(query, "age_to", most=_MAX_AGE),
        files=whole_of(query, "files", most=1_000_000_000),
        order=choice_of(query, "sort", PEOPLE_ORDERS) or "appearances",
    )


def suggest(visit: Visit) -> Response:
    """Return names that contain a text, for a field of names."""
    part = text_of(visit.request.query_params, "q", limit=200)
    if part is None:
        return JSONResponse([])
    with visit.desk.reading() as connection:
        return JSONResponse(names_like(connection, part))


def merge(visit: Visit) -> Response:
    """Merge the chosen people, into one that the form may name."""
    chosen, keep = numbers_of(visit.form, _CHOSEN), whole_of(visit.form, "into", least=1)
    if keep is not None:
        chosen = [keep, *(one for one in chosen if one != keep)]
    result = visit.desk.edit(lambda session: merge_chosen(session, chosen, visit.visitor.name, keep=keep))
    text = f"{len(chosen)} people are one now: person {result.person_id}."
    return done(visit, Note(text, "/corrections/undo", {"correction": str(result.correction_id)}))


def name(visit: Visit) -> Response:
    """Name the chosen people; where another one has the name, offer to merge them first."""
    chosen, given = numbers_of(visit.form, _CHOSEN), text_of(visit.form, "name", limit=MAX_PERSON_NAME)
    if chosen and given and not choice_of(visit.form, "same_name", ("both",)):
        offer = _offer_merge(visit, chosen, given)
        if offer is not None:
            return offer
    corrections = visit.desk.edit(lambda session: name_chosen(session, chosen, given, visit.visitor.name))
    who = f"Person {chosen[0]} is" if len(chosen) == 1 else f"People {', '.join(map(str, chosen))} are"
    text = f"{who} called {visible(given or '')}."
    if len(chosen) > 1:
        text += " If they are one person, merge them."
    return done(visit, Note(text, "/corrections/undo", {"correction": ",".join(map(str, corrections))}))


def _offer_merge(visit: Visit, chosen: list[int], given: str) -> Response | None:
    """Ask whether chosen people are the ones who have a name already; None where no other person has it."""
    with visit.desk.reading() as connection:
        others = [one for one in called(connection, given) if one not in chosen]
        if not others:
            return None
        shown = [*chosen[:MAX_NAMESAKES], *others[:MAX_NAMESAKES]]
        known = read_person_facts(connection, shown)
    people = [known[one] for one in shown if one in known]
    back = local_address(text_of(visit.form, "back"), "/people")
    return rendered(
        visit, "people/same_name.html", called=given, chosen=chosen, other_count=len(others), back=back,
        ours=[one for one in people if one.person_id in chosen],
        others=[one for one in people if one.person_id not in chosen],
    )  # fmt: skip


def hide_chosen(visit: Visit) -> Response:
    """Hide the chosen people."""
    hidden = visit.desk.edit(lambda session: hide(session, numbers_of(visit.form, _CHOSEN), visit.visitor.name))
    if not hidden:
        return done(visit, Note("No person was chosen: choose people first, then hide them."))
    text = f"{counted(len(hidden), 'person', 'people')} hidden; the filter Hidden shows them."
    return done(visit, Note(text, "/people/show", {"people": ",".join(map(str, hidden))}))


def show_chosen(visit: Visit) -> Response:
    """Show hidden people again: the chosen ones, or those of a note."""
    listed = text_of(visit.form, "people", limit=20_000) or ""
    numbers = numbers_of(visit.form, _CHOSEN) or [whole_of({"people": one}, "people") or 0 for one in listed.split(",")]
    shown = visit.desk.edit(lambda session: unhide(session, numbers))
    return done(visit, Note(f"{counted(len(shown), 'person is', 'people are')} shown again."))


def undo_corrections(visit: Visit) -> Response:
    """Undo the corrections of a note, or the user's latest one."""
    listed = text_of(visit.form, "correction", limit=20_000)
    numbers = [whole_of({"correction": one}, "correction", least=1) or 0 for one in listed.split(",")] if listed else []
    undone = visit.desk.edit(lambda session: undo(session, numbers, visit.visitor.name))
    return done(visit, Note(f"Undone: correction {', '.join(map(str, undone))}."))


ROUTES = [
    page("/people", people),
    page("/people/names", suggest),
    action("/people/merge", merge),
    action("/people/name", name),
    action("/people/hide", hide_chosen),
    action("/people/show", show_chosen),
    action("/corrections/undo", undo_corrections),
    *SEARCH_ROUTES,
]
