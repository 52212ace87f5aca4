"""Deletes the targets from the tables, in the caller's transaction, and counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.identity.corrections.anchors import ERASED
from worker.identity.gallery import refresh_people
from worker.ledger.submission.accept import SEALED_REASON
from worker.types import MIN_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import CursorResult
    from sqlalchemy.orm import Session

# The counts of jobs stay true without their items. A pending or cancelled file ends here, so it counts as rejected.
_COUNT_ITEMS = text("""
    UPDATE job j SET
        erased_done = erased_done + s.done,
        erased_quarantined = erased_quarantined + s.quarantined,
        erased_rejected = erased_rejected + s.items - s.done - s.quarantined,
        finished_at = greatest(j.finished_at, s.finished_at)
    FROM (
        SELECT i.job_id, count(*) AS items,
               count(*) FILTER (WHERE a.state = 'done') AS done,
               count(*) FILTER (WHERE a.state = 'quarantined') AS quarantined,
               max(CASE WHEN a.state = 'pending' THEN now()
                        ELSE coalesce(a.finished_at, m.submitted_at) END) AS finished_at
        FROM job_item i JOIN media_file m USING (media_id) LEFT JOIN analysis a USING (analysis_id)
        WHERE i.media_id IN (SELECT id FROM target_media)
        GROUP BY i.job_id) s
    WHERE j.job_id = s.job_id""")

# Children first, so that every row is counted under its table and none is deleted by a cascade.
_DELETES: Mapping[str, str] = {
    "prediction": "DELETE FROM prediction USING target_face WHERE face_id = id",
    # Of all trunks; and of a face that stays although its appearance goes, what it had of that.
    "face_embedding": """DELETE FROM face_embedding e
                         WHERE face_id IN (SELECT id FROM target_face)
                            OR embedding IS NULL AND appearance_id IN (SELECT id FROM target_appearance)""",
    "appearance_prediction": "DELETE FROM appearance_prediction USING target_appearance WHERE appearance_id = id",
    "regroup_change": "DELETE FROM regroup_change USING target_appearance WHERE appearance_id = id",
    "correction_anchor": """DELETE FROM correction_anchor k USING target_anchor d
                            WHERE k.correction_id = d.correction_id AND k.anchor_no = d.anchor_no""",
    "appearance": "DELETE FROM appearance USING target_appearance WHERE appearance_id = id",
    "face": "DELETE FROM face USING target_face WHERE face_id = id",
    # Strips without a crop of others are removed whole.
    "crop_strip": """DELETE FROM crop_strip c USING unit u JOIN analysis a USING (analysis_id)
                     WHERE u.unit_id = c.unit_id
                       AND (a.analysis_id IN (SELECT id FROM target_analysis)
                            OR a.media_id IN (SELECT id FROM target_sealed)
                               AND NOT EXISTS (SELECT FROM face f
                                               WHERE f.unit_id = c.unit_id AND f.strip_no = c.strip_no))""",
    "scene_cut": "DELETE FROM scene_cut USING target_analysis WHERE analysis_id = id",
    "crop_check": "DELETE FROM crop_check USING target_analysis WHERE analysis_id = id",
    "erasure_failure": "DELETE FROM erasure_failure USING target_media WHERE media_id = id",
    "unit": "DELETE FROM unit USING target_analysis WHERE analysis_id = id",
    "job_item": "DELETE FROM job_item USING target_media WHERE media_id = id",
    "analysis": "DELETE FROM analysis USING target_media WHERE media_id = id",
    "media_file": "DELETE FROM media_file USING target_media WHERE media_id = id",
}

_SEAL = (
    # Title and tags may name the person.
    """UPDATE media_file SET sealed_at = coalesce(sealed_at, now()), title = NULL, tags = '{}'
       FROM target_sealed WHERE media_id = id""",
    """UPDATE analysis SET state = CASE state WHEN 'pending' THEN 'rejected' ELSE state END, reason = :reason,
           finished_at = coalesce(finished_at, now()), frame_count = 0, face_count = 0
       FROM target_analysis WHERE analysis_id = id""",
)
_RECOUNT = (
    """UPDATE unit u SET face_count = (SELECT count(*) FROM face f WHERE f.unit_id = u.unit_id)
       FROM analysis a JOIN target_sealed ON id = a.media_id
       WHERE a.analysis_id = u.analysis_id AND u.state = 'done'""",
    """UPDATE analysis a SET face_count = (SELECT count(*) FROM face f WHERE f.analysis_id = a.analysis_id)
       FROM target_sealed WHERE a.media_id = id AND a.finished_at IS NOT NULL""",
)

# Under a trunk that took other faces together than the deciding one, an appearance of another person may lose a few
# faces. It is computed again from those that are left; its answers and times by the caller's function.
_MEND = text(f"""
    UPDATE appearance s SET face_count = n.faces, best_face_id = n.best, quality = n.quality, embedding = n.embedding
    FROM (
        SELECT e.appearance_id, count(*) AS faces,
               (array_agg(f.face_id ORDER BY f.quality DESC, f.face_id) FILTER (WHERE kept))[1] AS best,
               max(f.quality) FILTER (WHERE kept) AS quality,
               l2_normalize(sum(e.embedding::vector * array_fill(greatest(f.quality, {MIN_WEIGHT})::real,
                            ARRAY[vector_dims(e.embedding)])::vector) FILTER (WHERE kept))::halfvec AS embedding
        FROM target_shrunk t JOIN face_embedding e ON e.appearance_id = t.id JOIN face f USING (face_id)
        CROSS JOIN LATERAL (SELECT e.embedding IS NOT NULL AS kept) k
        GROUP BY e.appearance_id) n
    WHERE s.appearance_id = n.appearance_id""")  # noqa: S608 - a constant

# People who lost appearances and have none left, in any analysis and trunk; and people whom a correction had emptied
# before, if no anchor is left to which an undo could bring them back.
_EMPTIED = text("""
    WITH corrected AS MATERIALIZED (
        SELECT from_person_id AS person_id FROM target_anchor UNION SELECT to_person_id FROM target_anchor UNION
        SELECT unnest(people) FROM correction JOIN target_correction ON id = correction_id),
    concerned AS MATERIALIZED (
        SELECT id AS person_id FROM target_person
        UNION
        SELECT person_id FROM corrected WHERE person_id NOT IN (
            SELECT from_person_id FROM correction_anchor UNION SELECT to_person_id FROM correction_anchor))
    SELECT p.person_id FROM concerned JOIN person p USING (person_id)
    WHERE NOT EXISTS (SELECT FROM appearance s WHERE s.person_id = p.person_id)
    ORDER BY p.person_id""")

_NOTIFY = """
    INSERT INTO trunk_state (trunk_id, people_erased)
    SELECT trunk_id, nextval('facet.person_revision') FROM person_embedding
    WHERE person_id = ANY(:gone) GROUP BY trunk_id
    ON CONFLICT (trunk_id) DO UPDATE SET people_erased = excluded.people_erased"""
_REMAINING = text("""
    SELECT trunk_id, array_agg(person_id) AS people FROM person_embedding JOIN target_person ON id = person_id
    WHERE person_id <> ALL(:gone) GROUP BY trunk_id ORDER BY trunk_id""")

# A proposal that names an erased person no longer fits anyway.
_DELETE_PEOPLE: Mapping[str, str] = {
    "regroup_change": "DELETE FROM regroup_change WHERE from_person_id = ANY(:gone) OR to_person_id = ANY(:gone)",
    "person_alike": "DELETE FROM person_alike WHERE first_person_id = ANY(:gone) OR second_person_id = ANY(:gone)",
    "pair_answer": "DELETE FROM pair_answer WHERE first_person_id = ANY(:gone) OR second_person_id = ANY(:gone)",
    "person_total": "DELETE FROM person_total WHERE person_id = ANY(:gone)",
    "person_reading": "DELETE FROM person_reading WHERE person_id = ANY(:gone)",
    "person_embedding": "DELETE FROM person_embedding WHERE person_id = ANY(:gone)",
    "person": "DELETE FROM person WHERE person_id = ANY(:gone)",
}

# The first of a correction's people is the one that it was made about, and keeps its place.
_RENUMBER = (
    """UPDATE correction_anchor SET from_person_id = :erased WHERE from_person_id = ANY(:gone)""",
    """UPDATE correction_anchor SET to_person_id = :erased WHERE to_person_id = ANY(:gone)""",
    """UPDATE correction SET people =
           CASE WHEN people[1] = ANY(:gone) THEN ARRAY[cast(:erased AS bigint)] ELSE people[1:1] END
           || ARRAY(SELECT p FROM unnest(people[2:]) WITH ORDINALITY AS o (p, place)
                    WHERE p <> ALL(:gone) ORDER BY place)
       WHERE people && cast(:gone AS bigint[])""",
)


def count_jobs(session: Session) -> None:
    """Add the files that are about to go to the counts of their jobs; call it before `delete`."""
    session.execute(_COUNT_ITEMS)


def delete(session: Session) -> dict[str, int]:
    """Delete the targets; returns the number of rows by table."""
    return {table: _changed(session, statement) for table, statement in _DELETES.items()}


def mend_appearances(session: Session, answer: Callable[[Session, Sequence[int]], None]) -> None:
    """Compute appearances that lost some of their faces and stay again; call it after `delete`.

    Args:
        session: an open session.
        answer: computes answers and times of appearances again, given their numbers.
    """
    session.execute(_MEND)
    shrunk = session.scalars(text("SELECT id FROM target_shrunk ORDER BY id")).all()
    if shrunk:
        answer(session, shrunk)


def forget_answers(session: Session, appearances: Sequence[int]) -> None:
    """Delete the answers of appearances: those of faces that are gone are among their parts."""
    session.execute(
        text("DELETE FROM appearance_prediction WHERE appearance_id = ANY(:ids)"), {"ids": list(appearances)}
    )


def seal(session: Session) -> None:
    """Seal files that stay against further analyses, end running ones, and count their faces again."""
    for statement in _SEAL:
        session.execute(text(statement), {"reason": SEALED_REASON})
    for statement in _RECOUNT:
        session.execute(text(statement))


def find_emptied_people(session: Session) -> tuple[int, ...]:
    """Find the people without an appearance left; call it after `delete`."""
    return tuple(int(person) for person in session.scalars(_EMPTIED))


def refresh_remaining(session: Session, gone: Sequence[int]) -> None:
    """Sum up again the people who lost appearances and are left, under every trunk."""
    for row in session.execute(_REMAINING, {"gone": list(gone)}).all():
        refresh_people(session, row.trunk_id, np.array(row.people, np.int64))


def delete_people(session: Session, gone: Sequence[int]) -> dict[str, int]:
    """Delete people without an appearance left, and their numbers everywhere; returns the number of rows by table.

    Workers that hold the gallery in memory find a newer ``people_erased`` at their trunk, and read it again.
    """
    people = {"gone": list(gone), "erased": ERASED}
    if gone:
        for statement in (_NOTIFY, *_RENUMBER):
            session.execute(text(statement), people)
    return {table: _changed(session, statement, people) for table, statement in _DELETE_PEOPLE.items()}


def _changed(session: Session, statement: str, parameters: Mapping[str, object] | None = None) -> int:
    result: CursorResult[tuple[()]] = session.execute(text(statement), parameters or {})  # type: ignore[assignment]
    return int(result.rowcount)
