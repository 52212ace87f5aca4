"""The questions of docs/sql.md, with parameters: one file for the page, for forms and for comparisons of releases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal, cast

from db.base import MAX_BIGINT
from db.errors import WrongQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

ParameterKind = Literal["integer", "number", "text", "date"]

MAX_TEXT = 1000  # characters of a value; names of people and labels are shorter
NOTE = "--     "  # begins a line about a question
COMPARED = "compared"
_DECLARED = re.compile(r"(?P<name>[a-z]+) (?P<kind>integer|number|text|date) (?P<usual>.+?): (?P<meaning>.+)")
_INTEGER = re.compile(r"[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_PLACE = re.compile(r"(?<![:\w]):([a-z]+)\b")  # not the type behind ::


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A value that a question takes."""

    name: str
    kind: ParameterKind
    usual: str
    """The value of docs/sql.md."""
    meaning: str

    def literal(self, value: str) -> str:
        """Return a value as it stands in SQL.

        Raises:
            WrongQuery: it is of another kind, or too long.
        """
        if self.kind == "integer" and _INTEGER.fullmatch(value.strip()) and int(value) <= MAX_BIGINT:
            return str(int(value))
        if self.kind == "number" and _NUMBER.fullmatch(value.strip()):
            return value.strip()
        if self.kind == "date" and (day := _day(value)):
            return f"'{day}'"
        if self.kind == "text" and len(value) <= MAX_TEXT and _is_storable(value):
            return quote_literal(value)
        shown = value if len(value) <= 40 else f"{value[:40]}..."
        raise WrongQuery(f"{self.name} is {shown!r}; expected {EXPECTED[self.kind]}, such as {self.usual}")


EXPECTED: Mapping[ParameterKind, str] = {
    "integer": "a whole number from 0",
    "number": "a number",
    "text": f"text of at most {MAX_TEXT} characters",
    "date": "a day as YYYY-MM-DD",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its query."""

    title: str
    query: str
    """SQL in which ``:name`` stands for a parameter."""
    parameters: tuple[Parameter, ...] = ()
    is_compared: bool = False
    """Whether a comparison of releases asks it."""

    @property
    def name(self) -> str:
        """Its title as part of an address."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def sql(self, values: Mapping[str, str] | None = None) -> str:
        """Return the query with values; a parameter without one has its usual value.

        Values become literals, so that the text is complete: it can be shown, changed and run as it is.

        Raises:
            WrongQuery: a value does not fit its parameter.
        """
        given = values or {}
        literals = {one.name: one.literal(given.get(one.name, one.usual)) for one in self.parameters}
        return _PLACE.sub(lambda place: literals.get(place[1], place[0]), self.query)


@cache
def read_questions() -> tuple[Question, ...]:
    """Return all questions in the order of docs/sql.md."""
    page = (resources.files(__package__) / "questions.sql").read_text(encoding="utf-8")
    return tuple(_question(part) for part in page.split("\n\n-- ")[1:])


def find_question(name: str) -> Question | None:
    """Return the question of a name; None where there is none."""
    return next((one for one in read_questions() if one.name == name), None)


def _question(part: str) -> Question:
    title, *lines = part.strip().split("\n")
    notes = [line.removeprefix(NOTE) for line in lines if line.startswith(NOTE)]
    declared = [_parameter(note) for note in notes if note != COMPARED]
    query = "\n".join(line for line in lines if not line.startswith(NOTE))
    return Question(
        title=title, query=query.removesuffix(";"), parameters=tuple(declared), is_compared=COMPARED in notes
    )


def _parameter(note: str) -> Parameter:
    found = _DECLARED.fullmatch(note)
    if found is None:
        raise ValueError(f"{note!r} in questions.sql is no parameter; expected NAME KIND USUAL: MEANING")
    kind = cast("ParameterKind", found["kind"])
    return Parameter(name=found["name"], kind=kind, usual=found["usual"], meaning=found["meaning"])


def quote_literal(value: str) -> str:
    """Return a text as a literal of SQL; `run_query` sees to it that a backslash means itself."""
    return "'" + value.replace("'", "''") + "'"


def _day(value: str) -> str | None:
    try:
        return date.fromisoformat(value.strip()).isoformat()
    except ValueError:
        return None


def _is_storable(value: str) -> bool:
    """Whether PostgreSQL can hold a text: it knows no character 0, and no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)
