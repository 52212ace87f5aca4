"""Lists people and the appearances of one person, as the views show them, and finds people by their names."""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

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

_IS_SHOWN = "EXISTS (SELECT FROM people t WHERE t.person_id = p.person_id)"  # under the active release
_CALLED = text(f"SELECT person_id FROM person p WHERE lower(name) = lower(:name) AND {_IS_SHOWN} ORDER BY person_id")  # noqa: S608 - a constant
_NAMES = text("SELECT DISTINCT name FROM person WHERE name IS NOT NULL")
_OF_APPEARANCES = text("""
    SELECT DISTINCT person_id, p.name IS NULL FROM appearances a JOIN person p USING (person_id)
    WHERE appearance_id = ANY(:ids) AND (p.name IS NULL OR p.name = :name) ORDER BY p.name IS NULL, person_id""")
_OF_APPEARANCE = text("SELECT person_id FROM appearances WHERE appearance_id = :appearance_id")


def find_person(session: Session, given: str) -> int:
    """Return the number of a person who is given by number or by name; upper and lower case are alike.

    Raises:
        UsageError: no person or more than one has the name.
    """
    given = unicodedata.normalize("NFC", given.strip())
    if given.isascii() and given.isdecimal():
        return int(given)
    found = people_called(session, given)
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ", ".join(map(str, found))
        raise UsageError(
            f"{len(found)} people are called {given}: {numbers}; pass the number of one, or merge them: "
            f"`facet people merge {' '.join(map(str, found))}`"
        )
    near = difflib.get_close_matches(given, list(session.scalars(_NAMES)), n=3)
    hint = f", {', '.join(near)} is" if near else ""
    raise UsageError(f"no person is called {given}{hint}; pass a number or a name of `facet people list`")


def people_called(session: Session, name: str) -> list[int]:
    """Return the numbers of people who have a name, in ascending order; upper and lower case are alike."""
    return list(session.scalars(_CALLED, {"name": unicodedata.normalize("NFC", name.strip())}))


def name_of(session: Session, person_id: int) -> str | None:
    """Return the name of a person, None where there is none."""
    found = session.scalar(text("SELECT name FROM person WHERE person_id = :id"), {"id": person_id})
    return None if found is None else str(found)


def person_of_appearance(session: Session, appearance_id: int) -> int:
    """Return the person of an appearance.

    Raises:
        UsageError: there is no such appearance, or it has no person yet.
    """
    found = session.scalar(_OF_APPEARANCE, {"appearance_id": appearance_id})
    if found is None:
        raise UsageError(
            f"there is no appearance {appearance_id} with a person; expected one that a contact sheet shows"
        )
    return int(found)


def named_people_of(session: Session, appearance_ids: Sequence[int], name: str) -> list[int]:
    """Return the people of some appearances who have a name or none: those with the name first, by number."""
    rows = session.execute(_OF_APPEARANCES, {"ids": list(appearance_ids), "name": name})
    return [int(row.person_id) for row in rows]


def read_people(session: Session, limit: int) -> list[ListedPerson]:
    """Return people, those with the most appearances first."""
    rows = session.execute(_PEOPLE, {"limit": limit})
    return [ListedPerson(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to read a Row by name


def read_appearances(session: Session, person_id: int) -> list[ListedAppearance]:
    """Return the appearances of a person by file and time; none where there is no such person."""
    rows = session.execute(_APPEARANCES, {"person_id": person_id})
    return [ListedAppearance(**row._mapping) for row in rows]  # noqa: SLF001 - as above
