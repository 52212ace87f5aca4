"""Rows of an archive by their places, and how two sets of them differ, for ``same_as_fresh.py``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from same_archive import Installation

    from worker.ledger.releases import ReleaseIds

    Place = tuple[Any, ...]
    Rows = dict[Place, Any]

MAX_CODE_STEPS = 32  # of 2048 or 1024: a batch of another size rounds differently, so a probability is off by 2 %
MAX_FILE_STEPS = 160  # landmarks are stored to 1/32768 of the box, so crops cut again differ by some grey values
MAX_NUMBER = 0.5  # of values and intervals, in years
MAX_SHARE = 0.02  # of confidences
MAX_ANGLE = 0.0005  # 1 - cosine of two embeddings

NUMBERS = ("value", "low", "high", "confidence")
# Keys are places, so that rows of two databases can be compared.
PREDICTIONS = """
    SELECT m.uri, f.frame_index, f.face_no, l.task, p.label, p.value, p.low, p.high, p.confidence,
           (SELECT o.scores FROM prediction o JOIN layer h ON h.layer_id = o.reading_id
            WHERE o.face_id = f.face_id AND h.parent_id = l.parent_id AND o.scores IS NOT NULL LIMIT 1) AS scores
    FROM face f JOIN analysis a USING (analysis_id) JOIN media_file m USING (media_id)
    JOIN prediction p USING (face_id) JOIN layer l ON l.layer_id = p.reading_id
    WHERE a.is_current AND a.finder_id = :finder AND l.layer_id = ANY (:readings)"""
FACES = """
    SELECT m.uri, f.frame_index, f.face_no, f.dropped_reason, f.x1, f.y1, f.x2, f.y2, f.quality,
           cast(e.embedding AS real[]) AS embedding, s.ordinal, s.person_id, n.name
    FROM face f JOIN analysis a USING (analysis_id) JOIN media_file m USING (media_id)
    LEFT JOIN face_embedding e ON e.face_id = f.face_id AND e.trunk_id = :trunk
    LEFT JOIN appearance s USING (appearance_id) LEFT JOIN person n USING (person_id)
    WHERE a.is_current AND a.finder_id = :finder"""
APPEARANCES = """
    SELECT m.uri, s.ordinal, l.task, s.start_seconds, s.end_seconds, s.face_count, s.quality, p.label, p.value, p.low,
           p.high, p.confidence, p.scores, cast(s.embedding AS real[]) AS embedding
    FROM appearance s JOIN analysis a USING (analysis_id, media_id) JOIN media_file m USING (media_id)
    LEFT JOIN appearance_prediction p ON p.appearance_id = s.appearance_id AND p.reading_id = ANY (:readings)
    LEFT JOIN layer l ON l.layer_id = p.reading_id
    WHERE a.is_current AND a.finder_id = :finder AND s.trunk_id = :trunk"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows of a release, each by its place."""

    predictions: Rows
    """By file, frame, number of the face and head."""
    faces: Rows
    """By file, frame and number of the face."""
    appearances: Rows
    """By file, number and head."""

    def of(self, *tasks: str) -> Snapshot:
        """Return the answers of some heads."""
        return Snapshot(
            {place: row for place, row in self.predictions.items() if row.task in tasks},
            {},
            {place: row for place, row in self.appearances.items() if row.task in tasks},
        )


def take_snapshot(installation: Installation, ids: ReleaseIds) -> Snapshot:
    """Read the rows of a release."""
    values = {"readings": list(ids.readings.values()), "trunk": ids.trunk_id, "finder": ids.finder_id}
    return Snapshot(
        {tuple(row[:4]): row for row in installation.ask(PREDICTIONS, **values)},
        {tuple(row[:3]): row for row in installation.ask(FACES, **values)},
        {tuple(row[:3]): row for row in installation.ask(APPEARANCES, **values)},
    )


@dataclass(slots=True)
class Comparison:
    """How the rows that were filled in differ from fresh ones."""

    rows: int = 0
    equal: int = 0
    """Rows of which every column is equal, bit for bit."""
    largest: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Largest difference by column; of `label` and other words the count of differing rows."""
    beyond: list[str] = field(default_factory=list)
    """Rows beyond the tolerance, in words."""

    def note(self, column: str, difference: float, limit: float, place: Place) -> None:
        """Note a difference of numbers."""
        self.largest[column] = max(self.largest[column], difference)
        if difference > limit:
            self.beyond.append(f"{place}: {column} differs by {difference:.4g}, more than {limit:g}")


def compare(new: Rows, fresh: Rows, compare_row: Callable[[Comparison, Place, Any, Any], None]) -> Comparison:
    """Compare rows place by place."""
    found = Comparison(rows=len(new))
    for place in sorted(new.keys() ^ fresh.keys(), key=str):
        found.beyond.append(f"{place}: only {'filled in' if place in new else 'fresh'}")
    for place in sorted(new.keys() & fresh.keys(), key=str):
        one, other = new[place], fresh[place]
        found.equal += _comparable(one) == _comparable(other)
        compare_row(found, place, one, other)
    return found


def count_unlike(new: Rows, before: Rows) -> int:
    """Return how many rows differ from those of another release: a variant that changes nothing would prove nothing."""
    return sum(place not in before or _comparable(row) != _comparable(before[place]) for place, row in new.items())


def _comparable(row: Any) -> list[Any]:
    values = row._asdict()
    for name in ("person_id", "name"):  # numbers of people are those of one database
        values.pop(name, None)
    return [bytes(value) if isinstance(value, memoryview) else value for value in values.values()]


def compare_answers(found: Comparison, place: Place, one: Any, other: Any, steps: int = MAX_CODE_STEPS) -> None:
    """Compare two answers of a head, about a face or an appearance."""
    codes = [np.frombuffer(row.scores or b"", ">u2").astype(int) for row in (one, other)]
    if codes[0].shape != codes[1].shape:
        found.beyond.append(f"{place}: {len(codes[0])} and {len(codes[1])} scores")
    elif len(codes[0]):
        found.note("scores", float(np.abs(codes[0] - codes[1]).max()), steps, place)
    for name in NUMBERS:
        pair = getattr(one, name), getattr(other, name)
        if None in pair:
            if pair != (None, None):
                found.beyond.append(f"{place}: {name} is {pair[0]} and {pair[1]}")
            continue
        limit = MAX_SHARE * max(1, steps / MAX_CODE_STEPS) if name == "confidence" else MAX_NUMBER
        found.note(name, abs(pair[0] - pair[1]), limit, place)
    if one.label != other.label:
        found.largest["label"] += 1
        found.beyond.append(
            f"{place}: {one.label} with {one.confidence:.4f} and {other.label} with {other.confidence:.4f}"
        )


def compare_faces(found: Comparison, place: Place, one: Any, other: Any) -> None:
    """Compare two faces with their embeddings and the numbers of their appearances."""
    if (one.dropped_reason, one.ordinal) != (other.dropped_reason, other.ordinal):
        found.largest["words"] += 1
        found.beyond.append(f"{place}: {(one.dropped_reason, one.ordinal)} and {(other.dropped_reason, other.ordinal)}")
    edges = [abs(getattr(one, edge) - getattr(other, edge)) for edge in ("x1", "y1", "x2", "y2")]
    found.note("box", max(edges), MAX_NUMBER, place)
    found.note("quality", abs((one.quality or 0.0) - (other.quality or 0.0)), MAX_SHARE, place)
    _compare_embeddings(found, place, one, other)


def compare_appearances(found: Comparison, place: Place, one: Any, other: Any, steps: int = MAX_CODE_STEPS) -> None:
    """Compare two appearances with an answer of each."""
    if one.face_count != other.face_count:
        found.beyond.append(f"{place}: {one.face_count} and {other.face_count} faces")
    for name in ("start_seconds", "end_seconds", "quality"):
        found.note(name, abs(getattr(one, name) - getattr(other, name)), MAX_SHARE, place)
    _compare_embeddings(found, place, one, other)
    compare_answers(found, place, one, other, steps)


def _compare_embeddings(found: Comparison, place: Place, one: Any, other: Any) -> None:
    if (one.embedding is None) != (other.embedding is None):
        found.beyond.append(f"{place}: only one has an embedding")
    elif one.embedding is not None:
        vectors = [np.array(row.embedding, np.float64) for row in (one, other)]
        cosine = float(np.dot(*vectors) / np.prod([np.linalg.norm(vector) for vector in vectors]))
        found.note("1 - cosine", max(1.0 - cosine, 0.0), MAX_ANGLE, place)


def pairs_together(faces: Mapping[Place, Any]) -> set[tuple[Place, Place]]:
    """Return the pairs of appearances (file and number) that are one person's."""
    people: dict[int, set[Place]] = defaultdict(set)
    for row in faces.values():
        if row.person_id is not None:
            people[row.person_id].add((row.uri, row.ordinal))
    return {pair for members in people.values() for pair in combinations(sorted(members), 2)}


def people_at(faces: Mapping[Place, Any], places: Iterable[Place]) -> dict[Place, tuple[int, str | None]]:
    """Return number and name of the people at some places."""
    return {place: (faces[place].person_id, faces[place].name) for place in places if faces[place].person_id}
