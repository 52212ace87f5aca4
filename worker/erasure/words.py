"""What humans said of whom is erased: it goes with its places, and what it says of others stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

# A name was given to a person, not to a file. Where the named appearances go and the person stays, by appearances that
# came later, the name holds on to the clearest of these from now on.
_KEEP_NAMES = text("""
    INSERT INTO correction_anchor (correction_id, anchor_no, side, media_id, at_seconds, x1, y1, x2, y2, appearance_id,
                                   from_person_id, to_person_id)
    SELECT c.correction_id,
           1 + (SELECT max(anchor_no) FROM correction_anchor k WHERE k.correction_id = c.correction_id),
           0, best.media_id, f.at_seconds, f.x1, f.y1, f.x2, f.y2, best.appearance_id, p.person_id, p.person_id
    FROM correction c JOIN doomed_correction ON id = c.correction_id
    JOIN person p ON p.person_id IN (SELECT id FROM doomed_person) AND p.name = c.name
    CROSS JOIN LATERAL (
        SELECT s.appearance_id, s.media_id, s.best_face_id FROM appearance s JOIN analysis a USING (analysis_id)
        WHERE s.person_id = p.person_id AND a.is_current
          AND s.appearance_id NOT IN (SELECT id FROM doomed_appearance)
        ORDER BY s.quality DESC, s.appearance_id LIMIT 1) best
    JOIN face f ON f.face_id = best.best_face_id
    WHERE c.undone_at IS NULL
      AND NOT EXISTS (
        SELECT FROM correction_anchor k
        WHERE k.correction_id = c.correction_id AND k.side = 0
          AND NOT EXISTS (SELECT FROM doomed_anchor d
                          WHERE d.correction_id = k.correction_id AND d.anchor_no = k.anchor_no))""")

_EMPTY = text("""
    DELETE FROM correction c USING doomed_correction
    WHERE id = c.correction_id
      AND NOT EXISTS (SELECT FROM correction_anchor k WHERE k.correction_id = c.correction_id AND k.side = 0)
    RETURNING 1""")

# Of what also speaks of others, the words may tell who is gone: a name that nobody else bears, and reasons.
_NAMELESS = text("""
    DELETE FROM correction c USING doomed_correction
    WHERE id = c.correction_id AND c.people && cast(:gone AS bigint[]) AND c.kind = 'name'
      AND NOT EXISTS (SELECT FROM person p WHERE p.name = c.name AND p.person_id <> ALL(:gone))
    RETURNING 1""")
_SILENCED = text("""
    UPDATE correction c SET reason = NULL, undo_reason = NULL, name = (
        SELECT p.name FROM person p WHERE p.name = c.name AND p.person_id <> ALL(:gone) LIMIT 1)
    FROM doomed_correction WHERE id = c.correction_id AND c.people && cast(:gone AS bigint[])""")


def keep_names(session: Session) -> None:
    """Let names hold on to appearances that stay; call it before anything is deleted."""
    session.execute(_KEEP_NAMES)


def drop_words(session: Session, gone: Sequence[int]) -> int:
    """Delete corrections that have nobody left to speak of, and take names and reasons out of what others keep.

    Args:
        session: in it the places that go are deleted already, the people not yet.
        gone: people of whom nothing is left.

    Returns:
        How many corrections were deleted.
    """
    people = {"gone": list(gone)}
    deleted = len(session.execute(_EMPTY).all()) + len(session.execute(_NAMELESS, people).all())
    session.execute(_SILENCED, people)
    return deleted
