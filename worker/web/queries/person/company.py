"""The people who are in view together with a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.web.queries.person.facts import read_person_facts

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from worker.web.queries.person.facts import PersonFacts

MAX_COMPANY = 48  # people
MAX_COMPARED = 2000  # of the person that are compared, the latest files first

_COMPANY = text("""
    WITH own AS MATERIALIZED (
        SELECT media_id, start_seconds, end_seconds FROM appearances WHERE person_id = :person
        ORDER BY media_id DESC LIMIT :appearances
    )
    SELECT o.person_id, count(DISTINCT o.media_id) AS media_count
    FROM own JOIN appearances o ON o.media_id = own.media_id
        AND o.start_seconds <= own.end_seconds AND o.end_seconds >= own.start_seconds
    WHERE o.person_id <> :person
    GROUP BY o.person_id ORDER BY media_count DESC, count(*) DESC, o.person_id LIMIT :limit""")


@dataclass(frozen=True, slots=True)
class Companion:
    """A person beside another one."""

    person: PersonFacts
    media_count: int
    """Files in which both are in view at one time."""


def read_company(connection: Connection, person_id: int, *, limit: int = MAX_COMPANY) -> list[Companion]:
    """Return the people who are in view at the same time as a person, those in most files first."""
    bounds = {"person": person_id, "limit": limit, "appearances": MAX_COMPARED}
    found = connection.execute(_COMPANY, bounds).all()
    people = read_person_facts(connection, [row.person_id for row in found])
    return [Companion(people[row.person_id], row.media_count) for row in found if row.person_id in people]
