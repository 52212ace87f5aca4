"""Coverage: how much of the archive has everything that another release would show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.releases.diff.changes import ANSWERS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds

_LACKING = text(f"SELECT before_id FROM ({ANSWERS}) AS answer WHERE lacks")  # noqa: S608 - a constant
_UNEMBEDDED = text("""
    SELECT p.before_id FROM face_pair AS p
    LEFT JOIN facet.face_embedding AS e ON e.face_id = p.after_id AND e.trunk_id = :trunk_id
    WHERE p.before_id IS NOT NULL AND p.after_id IS NOT NULL AND e.embedding IS NULL
      AND EXISTS (SELECT FROM facet.face_embedding AS o WHERE o.face_id = p.before_id AND o.trunk_id = :old_trunk_id
                  AND o.embedding IS NOT NULL)""")


def uncovered(session: Session, before: ReleaseIds, after: ReleaseIds) -> int:
    """Count the pairs of ``make_pairs`` that lack an answer or an embedding under the new release.

    A head that the old release has and that is switched off, so that it has no answers either, is lacking nowhere.
    """
    lacking: set[int] = set()
    for task, reading in after.readings.items():
        old = before.readings.get(task)
        if (old, before.finder_id) != (reading, after.finder_id):
            lacking.update(session.scalars(_LACKING, {"before": old, "after": reading}))
    if before.trunk_id != after.trunk_id:
        trunks = {"trunk_id": after.trunk_id, "old_trunk_id": before.trunk_id}
        lacking.update(session.scalars(_UNEMBEDDED, trunks))
    return len(lacking)
