"""Lists people and the appearances of one person, as the views show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPerson:
    """A row of the view ``people``, in brief."""

    person_id: int
    name: str | None
    appearance_count: int
    media_count: int
    face_count: int
    age: float | None
    gender: str | None
    ethnicity: str | None
    best_face_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAppearance:
    """A row of the view ``appearances`` with its file, in brief."""

    appearance_id: int
    uri: str
    start_seconds: float
    end_seconds: float
    face_count: int
    age: float | None
    gender: str | None
    emotion: str | None


_PEOPLE = text("""
    SELECT person_id, name, appearance_count, media_count, face_count, age, gender, ethnicity, best_face_id
    FROM people ORDER BY appearance_count DESC, person_id LIMIT :limit""")
_APPEARANCES = text("""
    SELECT appearance_id, uri, start_seconds, end_seconds, a.face_count, age, gender, emotion
    FROM appearances a JOIN media USING (media_id) WHERE person_id = :person_id
    ORDER BY uri, start_seconds""")


def read_people(session: Session, limit: int) -> list[ListedPerson]:
    """Return people, those with the most appearances first."""
    rows = session.execute(_PEOPLE, {"limit": limit})
    return [ListedPerson(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to read a Row by name


def read_appearances(session: Session, person_id: int) -> list[ListedAppearance]:
    """Return the appearances of a person by file and time; none where there is no such person."""
    rows = session.execute(_APPEARANCES, {"person_id": person_id})
    return [ListedAppearance(**row._mapping) for row in rows]  # noqa: SLF001 - as above
