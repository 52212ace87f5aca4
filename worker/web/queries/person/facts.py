"""A person in a sentence, the person that it was merged into, and people with a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

MAX_SUGGESTED = 8  # that are suggested

_COLUMNS = """person_id, name, appearance_count, media_count, face_count, screen_seconds, age, gender, best_face_id"""
_PEOPLE = text(f"SELECT {_COLUMNS} FROM people WHERE person_id = ANY(:ids)")  # noqa: S608 - constant columns
_MERGED = text("""
    SELECT people[1] FROM corrections
    WHERE kind = 'merge' AND undone_at IS NULL AND people @> ARRAY[cast(:id AS bigint)] AND people[1] <> :id
    ORDER BY correction_id DESC LIMIT 1""")
# Escaped, so that a % in what was typed is a %.
_NAMES = text("""
    SELECT name FROM people
    WHERE name IS NOT NULL AND lower(name) LIKE '%' || lower(:typed) || '%' ESCAPE '\\'
    GROUP BY name ORDER BY NOT lower(name) LIKE lower(:typed) || '%' ESCAPE '\\', name LIMIT :limit""")


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFacts:
    """A row of the view ``people``."""

    person_id: int
    name: str | None
    appearance_count: int
    media_count: int
    face_count: int
    screen_seconds: float
    age: float | None
    gender: str | None
    best_face_id: int | None


def read_person_facts(connection: Connection, person_ids: Sequence[int]) -> dict[int, PersonFacts]:
    """Return some people by their numbers; those without an appearance are left out."""
    rows = connection.execute(_PEOPLE, {"ids": list(person_ids)})
    return {row.person_id: PersonFacts(**row._mapping) for row in rows}  # noqa: SLF001 - the documented way


def merged_into(connection: Connection, person_id: int) -> int | None:
    """Return the person that a person was merged into, None for one that is no part of another."""
    found = connection.scalar(_MERGED, {"id": person_id})
    return None if not found else int(found)


def suggest_names(connection: Connection, typed: str, *, limit: int = MAX_SUGGESTED) -> list[str]:
    """Return names that contain what was typed, those that begin with it first."""
    escaped = typed.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return list(connection.scalars(_NAMES, {"typed": escaped, "limit": limit}))
