"""Corrections of people and hiding, with the name of the user who makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import UsageError
from worker.identity.correct import NewName, merge_people, name_people, undo_correction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

MAX_AT_ONCE = 500  # people of one edit: each is locked until it ends

_BY_SIZE = text("""SELECT person_id FROM people WHERE person_id = ANY(:ids)
                   ORDER BY person_id IS DISTINCT FROM cast(:keep AS bigint), name IS NULL, appearance_count DESC,
                            person_id""")
_HIDE = text("""UPDATE person SET hidden_at = clock_timestamp(), hidden_by = :user
                WHERE person_id = ANY(:ids) AND hidden_at IS NULL RETURNING person_id""")
_SHOW = text("UPDATE person SET hidden_at = NULL, hidden_by = NULL WHERE person_id = ANY(:ids) RETURNING person_id")
_LATEST = text("SELECT max(correction_id) FROM correction WHERE undone_at IS NULL AND made_by = :user")


@dataclass(frozen=True, slots=True)
class MergeResult:
    """Outcome of a merge."""

    person_id: int
    """The person that is left."""
    correction_id: int


def merge_chosen(session: Session, person_ids: Sequence[int], user: str, *, keep: int | None = None) -> MergeResult:
    """Merge people into one of them, whose number and name stay.

    Args:
        session: of the edit.
        person_ids: all of them.
        user: who merges them.
        keep: the one that stays; None: the named one with the most appearances, or the one with the most.

    Raises:
        UsageError: they are fewer than two, or one does not exist.
    """
    _limit(person_ids)
    ordered = list(session.scalars(_BY_SIZE, {"ids": list(person_ids), "keep": keep}))
    gone = sorted(set(person_ids) - set(ordered))
    if gone:
        raise UsageError(f"there is no person {gone[0]} any more; load the page again")
    if len(ordered) < 2:
        raise UsageError("fewer than two people were chosen; choose those who are one person")
    return MergeResult(ordered[0], merge_people(session, ordered, made_by=user))


def name_chosen(session: Session, person_ids: Sequence[int], name: str | None, user: str) -> list[int]:
    """Name people; returns the numbers of the corrections.

    Raises:
        UsageError: none was chosen, one does not exist, or the name is empty.
    """
    _limit(person_ids)
    if not person_ids:
        raise UsageError("no person was chosen; choose the one who has this name")
    if not name:
        raise UsageError("the name is empty; type what the person is called")
    return name_people(session, [NewName(person_id, name) for person_id in person_ids], made_by=user)


def hide(session: Session, person_ids: Sequence[int], user: str) -> list[int]:
    """Hide people from lists; their rows and the views' other answers stay as they are.

    Returns:
        Those that were not hidden before.
    """
    _limit(person_ids)
    return sorted(session.scalars(_HIDE, {"ids": sorted(person_ids), "user": user}))


def unhide(session: Session, person_ids: Sequence[int]) -> list[int]:
    """Show hidden people in lists again; returns them."""
    _limit(person_ids)
    return sorted(session.scalars(_SHOW, {"ids": sorted(person_ids)}))


def undo(session: Session, correction_ids: Sequence[int], user: str) -> list[int]:
    """Undo corrections, the latest first; without numbers, the user's latest one.

    Returns:
        Their numbers.

    Raises:
        UsageError: the user has none, one is undone already, or a later one is built upon it.
    """
    wanted = sorted(correction_ids, reverse=True)
    if not wanted:
        latest = session.scalar(_LATEST, {"user": user})
        if latest is None:
            raise UsageError(f"{user} has no correction to undo; those of others are in the history of their people")
        wanted = [int(latest)]
    return [undo_correction(session, number, made_by=user) for number in wanted]


def _limit(person_ids: Sequence[int]) -> None:
    if len(person_ids) > MAX_AT_ONCE:
        raise UsageError(f"{len(person_ids)} people were chosen, expected at most {MAX_AT_ONCE}; do it in parts")
