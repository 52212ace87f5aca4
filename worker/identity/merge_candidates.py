"""Merge candidates: pairs of people who came to look like one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.identity.corrections.anchors import read_corrections
from worker.identity.corrections.conflicts import people_of_groups
from worker.identity.corrections.name_assignment import people_of
from worker.identity.corrections.replay import replay
from worker.ledger.releases import active_release

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_PAIRS = text("""
    SELECT p.person_id, p.name, q.person_id AS other_id, q.name AS other_name,
           1 - (pe.embedding_sum <=> qe.embedding_sum) AS similarity,
           coalesce((SELECT appearance_count FROM people t WHERE t.person_id = p.person_id), 0) AS appearances,
           coalesce((SELECT appearance_count FROM people t WHERE t.person_id = q.person_id), 0) AS other_appearances
    FROM person_alike k
    JOIN person p ON p.person_id = k.first_person_id
    JOIN person q ON q.person_id = k.second_person_id
    JOIN person_embedding pe ON pe.person_id = k.first_person_id AND pe.trunk_id = k.trunk_id
    JOIN person_embedding qe ON qe.person_id = k.second_person_id AND qe.trunk_id = k.trunk_id
    WHERE k.trunk_id = :trunk_id AND pe.embedding_weight > 0 AND qe.embedding_weight > 0
      AND (p.name IS NULL OR q.name IS NULL OR p.name = q.name)
    ORDER BY similarity DESC, p.person_id, q.person_id""")


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


def read_merge_candidates(session: Session, *, limit: int = 20) -> list[MergeCandidate]:
    """Read merge candidates of the active release's trunk, the most similar first.

    Pairs that a correction separates, and pairs with different names, are left out.

    Args:
        session: an open session.
        limit: largest number of pairs.
    """
    trunk_id = active_release(session)[0].trunk_id
    apart = _separated(session, trunk_id)
    pairs: list[MergeCandidate] = []
    for row in session.execute(_PAIRS, {"trunk_id": trunk_id}):
        if (row.person_id, row.other_id) not in apart:
            first = CandidatePerson(row.person_id, row.name, row.appearances)
            second = CandidatePerson(row.other_id, row.other_name, row.other_appearances)
            pairs.append(MergeCandidate(first, second, float(row.similarity)))
        if len(pairs) == limit:
            break
    return pairs


def _separated(session: Session, trunk_id: int) -> set[tuple[int, int]]:
    """Return pairs of people, smaller id first, with a cannot-link constraint between some of their appearances."""
    corrections = replay(read_corrections(session, trunk_id))
    home = people_of_groups(corrections.group, people_of(session, corrections.appearance))
    pairs = np.sort(home[corrections.cannot_link], axis=1)
    return {(int(one), int(other)) for one, other in pairs}
