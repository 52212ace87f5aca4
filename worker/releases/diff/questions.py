"""The questions of docs/sql.md under two releases: whose answers moved most?"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.reader.questions import read_questions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.releases import ReleaseIds

    Key = tuple[object, ...]
    Numbers = tuple[float, ...]

MAX_ANSWER_ROWS = 10_000  # of one answer
SAME = 0.01  # numbers that differ by a smaller part of the larger one count as the same

_KEYS = frozenset({"minute"})  # numeric columns that identify rows, beside those that end with _id

_HIDE = text("UPDATE facet.release SET active = false WHERE active")
_SHOW = text("UPDATE facet.release SET active = true WHERE release_id = :release_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionChange:
    """The answer of one question under both releases."""

    question: str
    rows_before: int
    rows_after: int
    moved: int
    """Rows that only one of them has, or whose numbers differ by more than SAME."""
    share: float
    """Of all rows."""
    example: str
    """The row that moved most, with both answers; empty where none moved."""


def questions() -> dict[str, str]:
    """Return the questions that a comparison asks, SQL by title."""
    return {one.title: one.sql() for one in read_questions() if one.is_compared}


def question_changes(sessions: sessionmaker[Session], before: ReleaseIds, after: ReleaseIds) -> list[QuestionChange]:
    """Ask every question under both releases; the one that moved most comes first.

    A release is shown within a transaction that is rolled back, so no other process sees it.
    """
    old, new = (_answers(sessions, each) for each in (before, after))
    found = [compare_answers(title, old[title], new[title]) for title in old]
    return sorted(found, key=lambda one: -one.share)


def _answers(sessions: sessionmaker[Session], release: ReleaseIds) -> dict[str, dict[Key, Numbers]]:
    with sessions() as session:
        session.execute(_HIDE)
        session.execute(_SHOW, {"release_id": release.release_id})
        found = {title: _answer(session, query) for title, query in questions().items()}
        session.rollback()
    return found


def _answer(session: Session, query: str) -> dict[Key, Numbers]:
    """Return the numbers of each row by the rest of the row; rows with equal rests are numbered."""
    rows = session.connection().exec_driver_sql(query.replace("%", "%%"))
    keys = [name.endswith("_id") or name in _KEYS for name in tuple(rows.keys())]
    found: dict[Key, Numbers] = {}
    for row in rows.fetchmany(MAX_ANSWER_ROWS):
        numbers, rest = _split(row, keys)
        place = 0
        while (*rest, place) in found:
            place += 1
        found[*rest, place] = numbers
    return found


def _split(row: Sequence[object], keys: Sequence[bool]) -> tuple[Numbers, Key]:
    """Separate the numbers of a row from the values that identify it."""
    numbers: list[float] = []
    rest: list[object] = []
    for value, is_key in zip(row, keys, strict=True):
        if isinstance(value, (int, float, Decimal)) and not is_key:
            numbers.append(float(value))
        elif isinstance(value, list):
            numbers.extend(float(one) for one in value)
        else:
            rest.append(value)
    return tuple(numbers), tuple(rest)


def compare_answers(question: str, before: Mapping[Key, Numbers], after: Mapping[Key, Numbers]) -> QuestionChange:
    """Compare two answers, each the numbers of a row by the rest of the row."""
    every = {key: _distance(before.get(key), after.get(key)) for key in {**before, **after}}
    moved = {key: size for key, size in every.items() if size > SAME}
    worst = max(moved, key=lambda key: moved[key], default=None)
    return QuestionChange(
        question=question,
        rows_before=len(before),
        rows_after=len(after),
        moved=len(moved),
        share=len(moved) / max(len(every), 1),
        example="" if worst is None else _example(worst, before.get(worst), after.get(worst)),
    )


def _distance(before: Numbers | None, after: Numbers | None) -> float:
    """Return the largest relative difference of two rows' numbers; 1 where one row is missing."""
    if before is None or after is None or len(before) != len(after):
        return 1.0
    sizes = (abs(a - b) / max(abs(a), abs(b)) for a, b in zip(before, after, strict=True) if a != b)
    return max(sizes, default=0.0)


def _example(key: Key, before: Numbers | None, after: Numbers | None) -> str:
    name = ", ".join(str(part) for part in key[:-1] if part is not None)
    shown = ["no row" if row is None else " ".join(f"{number:g}" for number in row) for row in (before, after)]
    return f"{name}: {shown[0]} -> {shown[1]}"
