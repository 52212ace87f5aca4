"""Corrections of one person by a visitor: appearances that are someone else's, answers, and their undoing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.identity.correct import not_person, split_person, undo_correction
from worker.identity.merge_candidates import answer_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from db.schema.people_tables import PairAnswerKind


@dataclass(frozen=True, slots=True)
class Edited:
    """Result of an edit."""

    text: str
    correction_id: int | None
    """The correction to undo to take it back; None where there is none."""


def exclude_faces(session: Session, person_id: int, appearances: Sequence[int], *, made_by: str) -> Edited:
    """State that appearances are not a person: each goes to the next similar one, or becomes a new one."""
    done = not_person(session, person_id, appearances, made_by=made_by)
    others = sorted(set(done.people.values()))
    where = f"person {others[0]}" if len(others) == 1 else f"people {', '.join(map(str, others))}"
    moved = "1 face was" if len(done.people) == 1 else f"{len(done.people)} faces were"
    return Edited(f"{moved} taken out of person {person_id}: now {where}.", done.correction_id)


def split_faces(session: Session, person_id: int, appearances: Sequence[int], *, made_by: str) -> Edited:
    """Make appearances of a person a new one."""
    done = split_person(session, person_id, appearances, made_by=made_by)
    count = "1 face is" if len(appearances) == 1 else f"{len(appearances)} faces are"
    return Edited(f"{count} person {done.person_id} now.", done.correction_id)


def store_answer(session: Session, pair: tuple[int, int], given: PairAnswerKind, *, made_by: str) -> Edited:
    """Store the answer to whether two people are one."""
    correction_id = answer_pair(session, pair, given, made_by=made_by)
    first, second = sorted(pair)
    sentence = {
        "same": f"People {first} and {second} are one person.",
        "different": f"People {first} and {second} are two people.",
        "skipped": f"People {first} and {second} were skipped.",
    }
    return Edited(sentence[given], correction_id)


def ask_again(session: Session, pair: tuple[int, int]) -> Edited:
    """Take back that a pair was skipped."""
    first, second = sorted(pair)
    session.execute(
        text("""DELETE FROM pair_answer
                WHERE first_person_id = :first AND second_person_id = :second AND answer = 'skipped'"""),
        {"first": first, "second": second},
    )
    return Edited(f"People {first} and {second} are asked about again.", None)


def take_back(session: Session, correction_id: int, *, made_by: str) -> Edited:
    """Undo a correction."""
    undo_correction(session, correction_id, made_by=made_by)
    return Edited(f"Correction {correction_id} is undone.", None)
