"""Merge candidates: pairs of people who came to look like one, and the answers of users to whether they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.errors import UsageError
from worker.identity.correct import merge_people, separate_people
from worker.identity.corrections.anchors import read_corrections
from worker.identity.corrections.conflicts import people_of_groups
from worker.identity.corrections.name_assignment import people_of
from worker.identity.corrections.replay import replay
from worker.identity.search.likeness import SFACE, Comparisons, prior_of, probability
from worker.identity.search.searcher import TRUNK_FILE
from worker.ledger.releases import active_release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from db.schema.people_tables import PairAnswerKind

MAX_OPEN_PAIRS = 1000  # pairs that are compared and counted for a question: a page must not wait for a million of them

# An answer holds until its correction is undone: then the question is open again.
_IS_OPEN = """NOT EXISTS (
        SELECT FROM pair_answer a LEFT JOIN correction c USING (correction_id)
        WHERE a.first_person_id = k.first_person_id AND a.second_person_id = k.second_person_id
          AND c.undone_at IS NULL)"""
_CANDIDATES = f"""
    FROM person_alike k
    JOIN person p ON p.person_id = k.first_person_id
    JOIN person q ON q.person_id = k.second_person_id
    JOIN person_embedding pe ON pe.person_id = k.first_person_id AND pe.trunk_id = k.trunk_id
    JOIN person_embedding qe ON qe.person_id = k.second_person_id AND qe.trunk_id = k.trunk_id
    WHERE k.trunk_id = :trunk_id AND pe.embedding_weight > 0 AND qe.embedding_weight > 0
      AND (p.name IS NULL OR q.name IS NULL OR p.name = q.name)
      AND p.hidden_at IS NULL AND q.hidden_at IS NULL
      AND (NOT :open_only OR {_IS_OPEN})"""
# The similarity is computed for the pairs of the window alone, the rest for those that are returned.
_PAIRS = text(f"""
    SELECT c.person_id, c.name, c.other_id, c.other_name, 1 - c.distance AS similarity,
           vector_norm(c.one) / c.one_weight * vector_norm(c.other) / c.other_weight AS agreement,
           coalesce(s.appearance_count, 0) AS appearances, coalesce(t.appearance_count, 0) AS other_appearances,
           coalesce(least(s.best_quality, t.best_quality), 0) AS quality
    FROM (
        SELECT w.*, w.one <=> w.other AS distance
        FROM (
            SELECT p.person_id, p.name, q.person_id AS other_id, q.name AS other_name, k.trunk_id,
                   pe.embedding_sum AS one, qe.embedding_sum AS other, pe.embedding_weight AS one_weight,
                   qe.embedding_weight AS other_weight
            {_CANDIDATES}
            ORDER BY k.first_person_id, k.second_person_id LIMIT :window) w
        ORDER BY distance, w.person_id, w.other_id LIMIT :limit) c
    LEFT JOIN person_total s ON s.person_id = c.person_id AND s.trunk_id = c.trunk_id
    LEFT JOIN person_total t ON t.person_id = c.other_id AND t.trunk_id = c.trunk_id
    ORDER BY c.distance, c.person_id, c.other_id""")  # noqa: S608 - constants
_OPEN = text(f"SELECT p.person_id, q.person_id AS other_id {_CANDIDATES} LIMIT {MAX_OPEN_PAIRS}")
_ANY_SEPARATED = text("""
    SELECT EXISTS (SELECT FROM correction WHERE kind IN ('split', 'not') AND undone_at IS NULL)""")
_COUNT_ANSWERS = text("""
    SELECT count(*) FILTER (WHERE answer = 'same') AS same, count(*) FILTER (WHERE answer = 'different') AS different,
           count(*) FILTER (WHERE answer = 'skipped') AS skipped
    FROM pair_answer LEFT JOIN correction USING (correction_id) WHERE undone_at IS NULL""")
_STORE_ANSWER = text("""
    INSERT INTO pair_answer (first_person_id, second_person_id, answer, correction_id, made_by)
    VALUES (:first, :second, :answer, :correction_id, :made_by)
    ON CONFLICT (first_person_id, second_person_id) DO UPDATE SET answer = excluded.answer,
        correction_id = excluded.correction_id, made_by = excluded.made_by, created_at = now()""")
# The estimate of the planner from its last ANALYZE, where there are more people than are worth counting.
_PEOPLE = text(f"""
    SELECT greatest((SELECT count(*) FROM (SELECT FROM person LIMIT {MAX_OPEN_PAIRS}) AS p), reltuples)
    FROM pg_class WHERE oid = 'facet.person'::regclass""")  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class CandidatePerson:
    """One side of a merge candidate."""

    person_id: int
    name: str | None
    appearances: int


@dataclass(frozen=True, slots=True)
class MergeCandidate:
    """Two people of the gallery who may be one."""

    first: CandidatePerson
    second: CandidatePerson
    similarity: float
    """Cosine of their mean embeddings."""
    probability: float | None = None
    """That they are one person; None where the release has no calibration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCounts:
    """Progress of the answers."""

    same: int
    different: int
    skipped: int
    open: int
    """Pairs that wait for an answer, at most `MAX_OPEN_PAIRS`."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Pairs to read."""

    trunk_id: int
    apart: set[tuple[int, int]]
    """Pairs to leave out."""
    limit: int
    open_only: bool
    """Leave out pairs that a user answered."""


def read_merge_candidates(session: Session, *, limit: int = 20) -> list[MergeCandidate]:
    """Read merge candidates of the active release's trunk, the most similar first.

    Pairs that a correction separates, pairs with different names and hidden people are left out.

    Args:
        session: an open session.
        limit: largest number of pairs.
    """
    trunk_id = active_release(session)[0].trunk_id
    return _read(session, _Wanted(trunk_id, _separated(session, trunk_id), limit, open_only=False))


def read_open_pair(session: Session) -> tuple[MergeCandidate | None, AnswerCounts]:
    """Return the next pair that no user has answered, and the progress of the answers.

    It is the most similar of the first `MAX_OPEN_PAIRS` that wait.
    """
    trunk_id = active_release(session)[0].trunk_id
    apart = _separated(session, trunk_id)
    pairs = _read(session, _Wanted(trunk_id, apart, 1, open_only=True))
    given = session.execute(_COUNT_ANSWERS).one()
    waiting = {tuple(row) for row in session.execute(_OPEN, {"trunk_id": trunk_id, "open_only": True})}
    counts = AnswerCounts(same=given.same, different=given.different, skipped=given.skipped, open=len(waiting - apart))
    return pairs[0] if pairs else None, counts


def _read(session: Session, wanted: _Wanted) -> list[MergeCandidate]:
    window = MAX_OPEN_PAIRS + len(wanted.apart) if wanted.open_only else None
    bounds = {
        "trunk_id": wanted.trunk_id, "open_only": wanted.open_only, "window": window,
        "limit": wanted.limit + len(wanted.apart),
    }  # fmt: skip
    found = session.execute(_PAIRS, bounds)
    rows = [row for row in found if (row.person_id, row.other_id) not in wanted.apart][: wanted.limit]
    return [
        MergeCandidate(
            CandidatePerson(row.person_id, row.name, row.appearances),
            CandidatePerson(row.other_id, row.other_name, row.other_appearances),
            float(row.similarity),
            chance,
        )
        for row, chance in zip(rows, _probabilities(session, rows), strict=True)
    ]


def answer_pair(
    session: Session, pair: tuple[int, int], answer: PairAnswerKind, *, made_by: str | None = None
) -> int | None:
    """Store the answer to whether two people are one, and correct them accordingly.

    Args:
        session: an open session.
        pair: the people.
        answer: ``same`` merges them, and a name stays; ``different`` separates them; ``skipped`` changes nothing.
        made_by: name of the user.

    Returns:
        Number of the correction; None for a pair that is skipped.

    Raises:
        UsageError: one of them does not exist, or both are the same.
    """
    first, second = sorted(pair)
    if first == second:
        raise UsageError(f"got person {first} twice, expected two people")
    people = _named_first(session, (first, second))
    if gone := {first, second} - set(people):
        raise UsageError(f"there is no person {min(gone)}; see `facet people list`")
    correction_id = None
    if answer == "same":
        correction_id = merge_people(session, people, made_by=made_by)
    elif answer == "different":
        correction_id = separate_people(session, first, second, made_by=made_by)
    facts = {"first": first, "second": second, "answer": answer, "correction_id": correction_id, "made_by": made_by}
    session.execute(_STORE_ANSWER, facts)
    return correction_id


def _named_first(session: Session, people: Sequence[int]) -> list[int]:
    """Return those of some people who exist, named ones first: a merge keeps the number of its first."""
    statement = text("SELECT person_id FROM person WHERE person_id = ANY(:ids) ORDER BY name IS NULL, person_id")
    return list(session.scalars(statement, {"ids": list(people)}))


def _separated(session: Session, trunk_id: int) -> set[tuple[int, int]]:
    """Return pairs of people, smaller id first, with a cannot-link constraint between some of their appearances."""
    if not session.execute(_ANY_SEPARATED).scalar_one():
        return set()
    corrections = replay(read_corrections(session, trunk_id))
    home = people_of_groups(corrections.group, people_of(session, corrections.appearance))
    pairs = np.sort(home[corrections.cannot_link], axis=1)
    return {(int(one), int(other)) for one, other in pairs}


def _probabilities(session: Session, rows: Sequence[Row[tuple[object, ...]]]) -> list[float | None]:
    """Return the probability of each pair: the prior is that of a search among all people."""
    statement = text("SELECT manifest -> 'files' ->> :file FROM release WHERE active")
    if session.scalar(statement, {"file": TRUNK_FILE}) != SFACE.trunk_sha256:
        return [None] * len(rows)
    columns = {
        name: np.array([getattr(row, field) for row in rows], np.float64)
        for name, field in (("cosine", "similarity"), ("quality", "quality"), ("agreement", "agreement"))
    }
    people = int(session.execute(_PEOPLE).scalar_one())
    return [float(chance) for chance in probability(Comparisons(**columns), prior_of(people))]
