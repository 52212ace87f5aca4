"""Deletes the rows of layers that only a retired release had, a bounded batch in each transaction.

Each step walks one table by number and returns how far it came, so that a walk that was broken off goes on there.
Analyses and their units stay: they are the accounting of jobs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import text

from db.schema.totals import count_people
from worker.ledger.locks import lock_analyses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.orm import Session

FACES_PER_DELETE = 4000  # their rows are deleted in about half a second, in which nothing else waits
APPEARANCES_PER_DELETE = 2000  # their people are counted again in the same transaction
ANALYSES_PER_DELETE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLayers:
    """The layers of a retired release that no other release had."""

    finder_id: int | None = None
    trunk_id: int | None = None
    readings: tuple[int, ...] = ()
    """With readings that were retired before, if no release has their head any more."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Read them from JSON."""
        return cls(finder_id=plain["finder_id"], trunk_id=plain["trunk_id"], readings=tuple(plain["readings"]))


@dataclass(slots=True)
class DeletedBatch:
    """Result of one transaction of a step."""

    position: int | None
    """Number up to which all is done; None where the step has ended."""
    rows: dict[str, int] = field(default_factory=dict)
    """Deleted rows by table."""


_LAST_FACE = text("SELECT max(face_id) FROM (SELECT face_id FROM face WHERE face_id > :after ORDER BY 1 LIMIT :n) AS f")
# A head's scores stand in one row per face. Where it is deleted, the row of a reading that stays takes them over.
_KEEP_SCORES = text("""
    UPDATE prediction AS p SET scores = d.scores
    FROM prediction AS d JOIN layer AS dl ON dl.layer_id = d.reading_id JOIN layer AS pl ON pl.parent_id = dl.parent_id
    WHERE d.face_id BETWEEN :first AND :last AND d.reading_id = ANY(:readings) AND d.scores IS NOT NULL
      AND p.face_id = d.face_id AND p.reading_id = pl.layer_id AND p.scores IS NULL
      AND p.reading_id <> ALL(:readings)""")
# Of a face that no other reading of the head has a row for, the scores stay where a release that is left has the head:
# `worker.reprocess.batches.rows` takes them over, and their face may have no crop any more.
_PREDICTIONS = text("""
    DELETE FROM prediction AS d WHERE face_id BETWEEN :first AND :last AND reading_id = ANY(:readings)
      AND NOT (scores IS NOT NULL AND reading_id = ANY(:shared) AND NOT EXISTS (
          SELECT FROM layer AS dl JOIN layer AS ol ON ol.parent_id = dl.parent_id
          JOIN prediction AS o ON o.reading_id = ol.layer_id AND o.face_id = d.face_id AND o.scores IS NOT NULL
          WHERE dl.layer_id = d.reading_id AND o.reading_id <> d.reading_id))""")
_SHARED = text("""
    SELECT DISTINCT l.layer_id FROM layer AS l JOIN release_reading AS o ON o.head_id = l.parent_id
    JOIN release AS r USING (release_id) WHERE l.layer_id = ANY(:readings) AND r.retired_at IS NULL""")
_EMBEDDINGS = text("DELETE FROM face_embedding WHERE face_id BETWEEN :first AND :last AND trunk_id = :trunk")
_LAST_APPEARANCE = text("""
    SELECT max(appearance_id)
    FROM (SELECT appearance_id FROM appearance WHERE appearance_id > :after ORDER BY 1 LIMIT :n) AS s""")
_APPEARANCES = text("DELETE FROM appearance WHERE appearance_id BETWEEN :first AND :last AND trunk_id = :trunk")
_ANSWERS = text("""
    DELETE FROM appearance_prediction WHERE appearance_id BETWEEN :first AND :last AND reading_id = ANY(:readings)""")
_LAST_PERSON = text("""
    SELECT max(person_id) FROM (SELECT person_id FROM person WHERE person_id > :after ORDER BY 1 LIMIT :n) AS p""")
_PEOPLE: Mapping[str, str] = {
    "person_reading": "person_id BETWEEN :first AND :last AND reading_id = ANY(:readings)",
    "person_embedding": "person_id BETWEEN :first AND :last AND trunk_id = :trunk",
    "person_total": "person_id BETWEEN :first AND :last AND trunk_id = :trunk",
    "person_alike": "first_person_id BETWEEN :first AND :last AND trunk_id = :trunk",
    # People without embeddings, appearances, name and corrections.
    "person": """person_id BETWEEN :first AND :last AND cast(:trunk AS bigint) IS NOT NULL AND name IS NULL
        AND correction_id IS NULL
        AND NOT EXISTS (SELECT FROM person_embedding AS e WHERE e.person_id = person.person_id)
        AND NOT EXISTS (SELECT FROM appearance AS s WHERE s.person_id = person.person_id)
        AND person_id NOT IN (SELECT unnest(people) FROM correction)""",
}
_NEXT_ANALYSES = text("""
    SELECT analysis_id, face_count FROM analysis WHERE finder_id = :finder AND analysis_id > :after
    ORDER BY analysis_id LIMIT :n""")
_SOME_FACES = text("SELECT face_id FROM face WHERE analysis_id = ANY(:ids) LIMIT :n")
_OF_FACES: Mapping[str, str] = {
    "prediction": "face_id = ANY(:faces)",
    "face_embedding": "face_id = ANY(:faces)",
    "face": "face_id = ANY(:faces)",
}
# A worker that held a unit may still write crops for a while, as after an erasure.
_NOTE_CROPS = text("""
    INSERT INTO file_removal (kind, path, is_named, again_until)
    SELECT 'crops', left(m.sha256, 2) || '/' || m.sha256 || '/' || a.analysis_id, true,
           CASE WHEN EXISTS (SELECT FROM unit u WHERE u.analysis_id = a.analysis_id AND u.state = 'cancelled')
                THEN now() + interval '24 hours' END
    FROM analysis a JOIN media_file m USING (media_id)
    WHERE a.analysis_id = ANY(:ids) AND m.sha256 IS NOT NULL AND EXISTS (
        SELECT FROM unit u LEFT JOIN crop_strip s USING (unit_id)
        WHERE u.analysis_id = a.analysis_id AND (s.unit_id IS NOT NULL OR u.state = 'cancelled'))""")
_OF_ANALYSES: Mapping[str, str] = {
    "appearance_prediction": """appearance_id IN (
        SELECT appearance_id FROM appearance WHERE analysis_id = ANY(:ids))""",
    "appearance": "analysis_id = ANY(:ids)",
    "crop_strip": "unit_id IN (SELECT unit_id FROM unit WHERE analysis_id = ANY(:ids))",
    "scene_cut": "analysis_id = ANY(:ids)",
}
_RETIRE_ANALYSES = text("UPDATE analysis SET retired = true, is_current = false WHERE analysis_id = ANY(:ids)")


def delete_of_faces(session: Session, own: OwnLayers, after: int) -> DeletedBatch:
    """Delete predictions and embeddings of faces that stay."""
    if own.finder_id is not None or not (own.readings or own.trunk_id):
        return DeletedBatch(None)
    last = session.execute(_LAST_FACE, {"after": after, "n": FACES_PER_DELETE}).scalar()
    if last is None:
        return DeletedBatch(None)
    bounds = {"first": after + 1, "last": last}
    readings = bounds | {"readings": list(own.readings)}
    session.execute(_KEEP_SCORES, readings)
    shared = list(session.scalars(_SHARED, readings))
    rows = {"prediction": _count(session, _PREDICTIONS, readings | {"shared": shared})}
    if own.trunk_id is not None:
        rows["face_embedding"] = _count(session, _EMBEDDINGS, bounds | {"trunk": own.trunk_id})
    return DeletedBatch(last, rows)


def delete_appearances(session: Session, own: OwnLayers, after: int) -> DeletedBatch:
    """Delete appearances of the trunk, or the answers of readings for appearances that stay."""
    if own.finder_id is not None or (own.trunk_id is None and not own.readings):
        return DeletedBatch(None)  # those of a finder go with their analyses
    last = session.execute(_LAST_APPEARANCE, {"after": after, "n": APPEARANCES_PER_DELETE}).scalar()
    if last is None:
        return DeletedBatch(None)
    bounds = {"first": after + 1, "last": last}
    rows = {"appearance_prediction": _count(session, _ANSWERS, bounds | {"readings": list(own.readings)})}
    if own.trunk_id is not None:
        rows["appearance"] = _count(session, _APPEARANCES, bounds | {"trunk": own.trunk_id})
    count_people(session)
    return DeletedBatch(last, rows)


def delete_gallery(session: Session, own: OwnLayers, after: int) -> DeletedBatch:
    """Delete the totals of readings and the gallery of the trunk, with people that nothing else knows."""
    if own.trunk_id is None and not own.readings:
        return DeletedBatch(None)
    last = session.execute(_LAST_PERSON, {"after": after, "n": APPEARANCES_PER_DELETE}).scalar()
    if last is None:
        for table in ("regroup_proposal", "identify_failure", "trunk_state"):
            session.execute(text(f"DELETE FROM {table} WHERE trunk_id = :trunk"), {"trunk": own.trunk_id})  # noqa: S608 - constants
        return DeletedBatch(None)
    bounds = {"first": after + 1, "last": last, "readings": list(own.readings), "trunk": own.trunk_id}
    return DeletedBatch(last, _delete(session, _PEOPLE, bounds))


def delete_faces(session: Session, own: OwnLayers, after: int) -> DeletedBatch:
    """Delete the faces of the finder, and note their crops to be removed; their analyses stay, without rows."""
    if own.finder_id is None:
        return DeletedBatch(None)
    found = session.execute(_NEXT_ANALYSES, {"finder": own.finder_id, "after": after, "n": ANALYSES_PER_DELETE}).all()
    if not found:
        return DeletedBatch(None)
    ids: list[int] = []
    faces = 0
    for row in found:
        if ids and faces + row.face_count > FACES_PER_DELETE:
            break
        ids.append(row.analysis_id)
        faces += row.face_count
    lock_analyses(session, ids)
    some = list(session.scalars(_SOME_FACES, {"ids": ids, "n": FACES_PER_DELETE}))
    rows = _delete(session, _OF_FACES, {"faces": some})
    if len(some) == FACES_PER_DELETE:
        return DeletedBatch(after, rows)  # a long video is done in several transactions
    session.execute(_NOTE_CROPS, {"ids": ids})
    rows |= _delete(session, _OF_ANALYSES, {"ids": ids})
    session.execute(_RETIRE_ANALYSES, {"ids": ids})
    count_people(session)
    return DeletedBatch(ids[-1], rows)


STEPS: Mapping[str, Callable[[Session, OwnLayers, int], DeletedBatch]] = {
    "predictions": delete_of_faces,
    "appearances": delete_appearances,
    "faces": delete_faces,
    "people": delete_gallery,
}
"""In their order."""
CHANGE_PEOPLE = frozenset({"appearances", "faces", "people"})
"""Steps before which the caller takes the lock of people."""


def _delete(session: Session, conditions: Mapping[str, str], parameters: dict[str, Any]) -> dict[str, int]:
    """Delete from several tables, in their order; return how many rows by table."""
    statements = {name: text(f"DELETE FROM {name} WHERE {condition}") for name, condition in conditions.items()}  # noqa: S608 - constants
    return {name: _count(session, statement, parameters) for name, statement in statements.items()}


def _count(session: Session, statement: Any, parameters: dict[str, Any]) -> int:
    return int(session.execute(statement, parameters).rowcount)  # type: ignore[attr-defined]
