"""Same person?: one pair of people after the other, answered with yes, no or skip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import UsageError
from worker.web.access.visitor import Role
from worker.web.edits import corrections as edits
from worker.web.forms import choice_of, whole_of
from worker.web.queries.person.pairs import next_question
from worker.web.rendering import Note, done
from worker.web.rendering import page as render
from worker.web.visits import action, page

if TYPE_CHECKING:
    from starlette.responses import Response

    from db.schema.people_tables import PairAnswerKind
    from worker.web.visits import Visit

ANSWER_BUTTONS: dict[str, PairAnswerKind] = {"yes": "same", "no": "different", "skip": "skipped"}


def same_page(visit: Visit) -> Response:
    """Show the most similar pair without an answer."""
    with visit.desk.editing() as session:
        question, progress = next_question(session)
    return render(visit, "same/question.html", question=question, progress=progress)


def answer_form(visit: Visit) -> Response:
    """Store an answer, and go on with the next pair."""
    given, pair = choice_of(visit.form, "answer", ANSWER_BUTTONS), _pair(visit)
    if given is None:
        raise UsageError("no answer was given, expected yes, no or skip; press one of them")
    kind, user = ANSWER_BUTTONS[given], visit.visitor.name
    edited = visit.desk.edit(lambda session: edits.store_answer(session, pair, kind, made_by=user))
    if edited.correction_id is not None:
        return done(visit, Note(edited.text, f"/corrections/{edited.correction_id}/undo"), default="/same")
    fields = {"first": str(pair[0]), "second": str(pair[1])}
    return done(visit, Note(edited.text, "/same/again", fields), default="/same")


def again_form(visit: Visit) -> Response:
    """Ask about a pair again that was skipped."""
    pair = _pair(visit)
    edited = visit.desk.edit(lambda session: edits.ask_again(session, pair))
    return done(visit, Note(edited.text), default="/same")


def _pair(visit: Visit) -> tuple[int, int]:
    first, second = (whole_of(visit.form, field, least=1) for field in ("first", "second"))
    if first is None or second is None:
        raise UsageError("the form names no pair, expected two people; load the page again")
    return first, second


ROUTES = [
    page("/same", same_page, Role.REVIEWER),
    action("/same", answer_form),
    action("/same/again", again_form),
]
