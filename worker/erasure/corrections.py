"""Deletes the corrections about an erased person.

A correction goes with its last anchor. Corrections that also concern others are kept without the person's name.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.identity.corrections.anchors import read_moves
from worker.identity.corrections.name_assignment import people_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

# A name was given to a person, not to a file. Where all its anchors go and the person stays, with appearances that came
# later, the name is anchored to the clearest of these from now on. Several people may have one name,
# so the name selects only candidates.
_LAST_ANCHORS = text("""
    SELECT c.correction_id, array_agg(p.person_id) AS people
    FROM correction c JOIN target_correction ON id = c.correction_id
    JOIN person p ON p.name = c.name JOIN target_person d ON d.id = p.person_id
    WHERE c.undone_at IS NULL
      AND NOT EXISTS (
        SELECT FROM correction_anchor k
        WHERE k.correction_id = c.correction_id AND k.side = 0
          AND NOT EXISTS (SELECT FROM target_anchor d
                          WHERE d.correction_id = k.correction_id AND d.anchor_no = k.anchor_no))
    GROUP BY c.correction_id ORDER BY c.correction_id""")
# Names follow the appearances of the trunk that the views show.
_TRUNKS = text("""
    SELECT layer_id FROM layer WHERE kind = 'trunk'
    ORDER BY layer_id = (SELECT trunk_id FROM release WHERE active) DESC NULLS LAST, layer_id DESC""")

_KEEP_NAME = text("""
    INSERT INTO correction_anchor (correction_id, anchor_no, side, media_id, at_seconds, x1, y1, x2, y2, appearance_id,
                                   from_person_id, to_person_id)
    SELECT :correction_id,
           (SELECT 1 + max(anchor_no) FROM correction_anchor k WHERE k.correction_id = :correction_id),
           0, best.media_id, f.at_seconds, f.x1, f.y1, f.x2, f.y2, best.appearance_id, best.person_id, best.person_id
    FROM (
        SELECT s.appearance_id, s.media_id, s.best_face_id, s.person_id
        FROM appearance s JOIN analysis a USING (analysis_id)
        WHERE s.person_id = :person_id AND a.is_current
          AND s.appearance_id NOT IN (SELECT id FROM target_appearance)
        ORDER BY s.trunk_id = (SELECT trunk_id FROM release WHERE active) DESC NULLS LAST, s.quality DESC,
                 s.appearance_id LIMIT 1) best
    JOIN face f ON f.face_id = best.best_face_id""")

_WITHOUT_ANCHOR = text("""
    DELETE FROM correction c USING target_correction
    WHERE id = c.correction_id
      AND NOT EXISTS (SELECT FROM correction_anchor k WHERE k.correction_id = c.correction_id AND k.side = 0)
    RETURNING 1""")

# A correction that also concerns others may still identify the erased person: by a name of no other person, by reasons.
_NAMELESS = text("""
    DELETE FROM correction c USING target_correction
    WHERE id = c.correction_id AND c.people && cast(:gone AS bigint[]) AND c.kind = 'name'
      AND NOT EXISTS (SELECT FROM person p WHERE p.name = c.name AND p.person_id <> ALL(:gone))
    RETURNING 1""")
_ANONYMISED = text("""
    UPDATE correction c SET reason = NULL, undo_reason = NULL, name = (
        SELECT p.name FROM person p WHERE p.name = c.name AND p.person_id <> ALL(:gone) LIMIT 1)
    FROM target_correction WHERE id = c.correction_id AND c.people && cast(:gone AS bigint[])""")


def keep_names(session: Session) -> None:
    """Anchor names to appearances that stay; call it before any row is deleted."""
    found = session.execute(_LAST_ANCHORS).all()
    trunks = session.scalars(_TRUNKS).all() if found else []
    for last in found:
        bearers = (_bearer(session, trunk_id, last.correction_id, last.people) for trunk_id in trunks)
        bearer = next((person for person in bearers if person is not None), None)
        if bearer is not None:
            session.execute(_KEEP_NAME, {"correction_id": last.correction_id, "person_id": bearer})


def _bearer(session: Session, trunk_id: int, correction_id: int, people: Sequence[int]) -> int | None:
    """Return which of some people has most of the appearances that a correction named, None where none has any."""
    moves = read_moves(session, trunk_id, correction_id)
    named = people_of(session, np.unique(moves.appearance[moves.side == 0]))
    counts = Counter(person for person in named.tolist() if person in set(people))
    return min(counts, key=lambda person: (-counts[person], person), default=None)


def delete_corrections(session: Session, gone: Sequence[int]) -> int:
    """Delete corrections without an anchor left, and remove names and reasons from those that others keep.

    Args:
        session: a transaction in which the anchors are deleted already, the people not yet.
        gone: people without an appearance left.

    Returns:
        Number of corrections that were deleted.
    """
    people = {"gone": list(gone)}
    deleted = len(session.execute(_WITHOUT_ANCHOR).all()) + len(session.execute(_NAMELESS, people).all())
    session.execute(_ANONYMISED, people)
    return deleted
