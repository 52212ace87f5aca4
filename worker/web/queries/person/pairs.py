"""The next pair of people who may be one, with faces of both, and how far the answers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.identity.merge_candidates import MAX_OPEN_PAIRS, read_open_pair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.identity.merge_candidates import AnswerCounts, CandidatePerson

MAX_SIDE_FACES = 6  # of each side

_FACES = text("""
    SELECT a.appearance_id, a.best_face_id, a.media_id, m.uri, a.start_seconds
    FROM (SELECT * FROM appearances WHERE person_id = :person AND best_face_id IS NOT NULL
          ORDER BY quality DESC NULLS LAST, appearance_id LIMIT :limit) a
    JOIN media m USING (media_id)
    ORDER BY a.quality DESC NULLS LAST, a.appearance_id""")


@dataclass(frozen=True, slots=True)
class SideFace:
    """A face of one side."""

    appearance_id: int
    face_id: int
    media_id: int
    uri: str
    start_seconds: float


@dataclass(frozen=True, slots=True)
class QuestionSide:
    """One of the two people."""

    person: CandidatePerson
    faces: tuple[SideFace, ...]
    """The clearest first."""


@dataclass(frozen=True, slots=True)
class Question:
    """A pair to be answered."""

    first: QuestionSide
    second: QuestionSide
    similarity: float
    probability: float | None
    """That they are one person; None where the release has no calibration."""


@dataclass(frozen=True, slots=True)
class AnswerProgress:
    """How far the answers are."""

    counts: AnswerCounts

    @property
    def answered(self) -> int:
        """Pairs with an answer that holds."""
        return self.counts.same + self.counts.different + self.counts.skipped

    @property
    def total(self) -> int:
        """Pairs with and without an answer, as far as they are counted."""
        return self.answered + self.counts.open

    @property
    def is_counted(self) -> bool:
        """Whether the number of open pairs is exact."""
        return self.counts.open < MAX_OPEN_PAIRS


def next_question(session: Session) -> tuple[Question | None, AnswerProgress]:
    """Return the most similar pair without an answer, None where all are answered, and how far the answers are."""
    pair, counts = read_open_pair(session)
    if pair is None:
        return None, AnswerProgress(counts)
    first, second = _side(session, pair.first), _side(session, pair.second)
    return Question(first, second, pair.similarity, pair.probability), AnswerProgress(counts)


def _side(session: Session, person: CandidatePerson) -> QuestionSide:
    rows = session.execute(_FACES, {"person": person.person_id, "limit": MAX_SIDE_FACES})
    return QuestionSide(person, tuple(SideFace(*row) for row in rows))
