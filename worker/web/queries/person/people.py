"""Lists of people: filters, orders and keyset pages over the view ``counted_people``, which is read in index order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection

PAGE = 60
MAX_CHOICES = 100  # jobs that the filter offers

# Key and direction of each order; the number of the person decides between equal ones, in the same direction.
_KEYS = {
    "appearances": ("appearance_count", "DESC"),
    "time": ("screen_seconds", "DESC"),
    "newest": ("person_id", "DESC"),
    "name": ("lower(name)", "ASC"),
}
PEOPLE_ORDERS = tuple(_KEYS)
_KEY_TYPES = {"appearances": int, "time": float, "newest": int, "name": str}
NAMINGS = ("named", "unnamed")

_IN_FILE = """EXISTS (
    SELECT FROM appearances AS a JOIN {view} AS m USING (media_id) WHERE a.person_id = p.person_id AND {condition})"""
_CONDITIONS = {
    "query": "p.name ILIKE :query",
    "named": "p.name IS NOT NULL",
    "unnamed": "p.name IS NULL",
    "unsure": "p.has_merge_candidate",
    "job": _IN_FILE.format(view="files", condition="m.job_id = :job"),
    "folder": _IN_FILE.format(view="media", condition="starts_with(m.uri, :folder)"),
    "year": _IN_FILE.format(view="media", condition="m.uri ~ ('(^|[^0-9])' || :year || '([^0-9]|$)')"),
    "gender": "p.gender = :gender",
    "age_from": "p.age >= :age_from",
    "age_to": "p.age < :age_to + 1",
    "files": "p.media_count > :files",
}
_LIST = """
    SELECT p.person_id, p.name, p.appearance_count, p.media_count, p.screen_seconds, p.age, p.gender, p.best_face_id,
           {key} AS key
    FROM counted_people AS p WHERE {conditions} ORDER BY {key} {direction}, p.person_id {direction} LIMIT :limit
"""
_JOBS = text("SELECT job_id, name FROM jobs ORDER BY job_id DESC LIMIT :limit")
_NAMES = text("""SELECT DISTINCT name FROM counted_people WHERE name ILIKE :query ORDER BY name LIMIT :limit""")
_CALLED = text("""SELECT person_id, name, appearance_count FROM counted_people
                  WHERE name IS NOT NULL AND lower(name) = lower(:name) ORDER BY person_id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleFilter:
    """Which people are listed, and in which order; None is no restriction."""

    query: str | None = None
    """Part of the name."""
    naming: str | None = None
    """One of `NAMINGS`."""
    unsure: bool = False
    """Only people whom another one resembles so much that both may be one."""
    hidden: bool = False
    """Hidden people instead of all others."""
    job: int | None = None
    folder: str | None = None
    """Beginning of a file's path or URL."""
    year: int | None = None
    """A number that occurs in a file's path."""
    gender: str | None = None
    age_from: int | None = None
    age_to: int | None = None
    files: int | None = None
    """Fewest files but one."""
    order: str = "appearances"
    """One of `PEOPLE_ORDERS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPerson:
    """A person in a list."""

    person_id: int
    name: str | None
    appearance_count: int
    media_count: int
    screen_seconds: float
    age: float | None
    gender: str | None
    best_face_id: int | None


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """A page of a list."""

    people: tuple[ShownPerson, ...]
    after: str | None
    """Where the next page begins; None on the last one."""


@dataclass(frozen=True, slots=True)
class JobChoice:
    """A job that a filter offers."""

    job_id: int
    name: str | None


def list_people(
    connection: Connection, wanted: PeopleFilter, after: str | None = None, limit: int = PAGE
) -> PeoplePage:
    """Return a page of people.

    Args:
        connection: as the reader.
        wanted: filters and order.
        after: `PeoplePage.after` of the page before.
        limit: people on the page.

    Raises:
        UsageError: ``after`` is none of this order.
    """
    key, direction = _KEYS[wanted.order]
    conditions, values = _conditions(wanted)
    if after is not None:
        sign = "<" if direction == "DESC" else ">"
        conditions.append(f"({key}, p.person_id) {sign} (:after_key, :after_id)")
        values["after_key"], values["after_id"] = _position(wanted.order, after)
    statement = _LIST.format(key=key, conditions=" AND ".join(conditions), direction=direction)
    rows = connection.execute(text(statement), values | {"limit": limit + 1}).all()
    people = [ShownPerson(**{name: row._mapping[name] for name in ShownPerson.__slots__}) for row in rows[:limit]]  # noqa: SLF001 - the documented way to read a Row by name
    last = rows[limit - 1] if len(rows) > limit else None
    return PeoplePage(tuple(people), None if last is None else f"{last.person_id}:{last.key}")


def _conditions(wanted: PeopleFilter) -> tuple[list[str], dict[str, object]]:
    conditions = ["p.hidden_at IS NOT NULL" if wanted.hidden else "p.hidden_at IS NULL"]
    if wanted.naming is not None:
        conditions.append(_CONDITIONS[wanted.naming])
    elif wanted.order == "name":
        conditions.append(_CONDITIONS["named"])
    if wanted.unsure:
        conditions.append(_CONDITIONS["unsure"])
    values: dict[str, object] = {}
    for name in ("query", "job", "folder", "year", "gender", "age_from", "age_to", "files"):
        if (value := getattr(wanted, name)) is not None:
            conditions.append(_CONDITIONS[name])
            values[name] = _like(value) if name == "query" else str(value) if name == "year" else value
    return conditions, values


def _like(part: str) -> str:
    """Return a pattern for names that contain a text."""
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _position(order: str, after: str) -> tuple[object, int]:
    number, _, key = after.partition(":")
    try:
        return _KEY_TYPES[order](key), int(number)
    except ValueError as err:
        raise UsageError("the address names no place in this list; go to its first page") from err


def list_jobs(connection: Connection) -> list[JobChoice]:
    """Return the latest jobs, for a filter."""
    return [JobChoice(row.job_id, row.name) for row in connection.execute(_JOBS, {"limit": MAX_CHOICES})]


def names_like(connection: Connection, part: str, limit: int = 10) -> list[str]:
    """Return names that contain a text, for suggestions."""
    return list(connection.scalars(_NAMES, {"query": _like(part), "limit": limit}))


def called(connection: Connection, name: str) -> list[int]:
    """Return the people who have a name; upper and lower case are alike."""
    return list(connection.scalars(_CALLED, {"name": name}))
