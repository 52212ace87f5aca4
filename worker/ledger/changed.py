"""Files whose submitted bytes are gone: their results are deleted, and they are analysed once found again.

These reasons concern the place of a file, not its bytes: the same bytes, submitted from another place, are analysed as
if for the first time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import LeaseLostError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.errors import MediaChanged
    from worker.ledger.units import LeasedUnit

OF_THE_PLACE = ("changed", "missing", "no_permission", "special_file", "too_large", "unreadable")
"""Codes of reasons that do not concern the bytes."""

_UNITS = text("SELECT unit_id, token, state FROM unit WHERE analysis_id = :id ORDER BY unit_id FOR NO KEY UPDATE")

_REJECT = text("""
    UPDATE unit SET state = 'rejected', token = token + (state = 'leased' AND unit_id <> :own)::integer, owner = NULL,
        lease_until = NULL, finished_at = now(), frame_count = 0, face_count = 0, notes = NULL, shelved = false,
        last_error = CASE WHEN unit_id = :own THEN :reason END
    WHERE analysis_id = :id""")

_RETRY = text("""
    UPDATE unit SET state = 'pending', last_error = NULL, not_before = NULL, finished_at = NULL, attempts = 0
    FROM analysis AS a JOIN media_file AS m USING (media_id)
    WHERE unit.analysis_id = :id AND a.analysis_id = :id AND a.state = 'rejected' AND m.sealed_at IS NULL
      AND split_part(a.reason, ':', 1) = ANY (:codes)
    RETURNING unit.unit_id""")

_FORGET_CROPS = text("DELETE FROM crop_strip USING unit WHERE analysis_id = :id AND crop_strip.unit_id = unit.unit_id")

_REOPEN = text("UPDATE analysis SET state = 'pending', reason = NULL, finished_at = NULL WHERE analysis_id = :id")


def is_of_the_place(reason: str) -> bool:
    """Whether a file was rejected because of its place, so that it is analysed once it is found again."""
    return reason.partition(":")[0] in OF_THE_PLACE


def reject_changed(session: Session, unit: LeasedUnit, error: MediaChanged) -> None:
    """Reject all units of an analysis and delete its faces: earlier ranges may have been read from other bytes.

    The caller holds the lock of the analysis, without which no worker stores a unit of it.

    Raises:
        LeaseLostError: another worker holds or ended the unit; nothing is written.
    """
    key = {"id": unit.analysis_id}
    held = (unit.unit_id, unit.token, "leased")
    if held not in {(row.unit_id, row.token, row.state) for row in session.execute(_UNITS, key)}:
        raise LeaseLostError(f"unit {unit.unit_id} is no longer held under token {unit.token}; its end is dropped")
    session.execute(_REJECT, key | {"own": unit.unit_id, "reason": error.reason})
    session.execute(text("DELETE FROM face WHERE analysis_id = :id"), key)
    session.execute(_FORGET_CROPS, key)
    session.execute(text("DELETE FROM scene_cut WHERE analysis_id = :id"), key)


def retry_found(session: Session, analysis_id: int) -> int:
    """Requeue an analysis that was rejected because of its file's place; return how many units were requeued."""
    key = {"id": analysis_id}
    units = session.execute(_RETRY, key | {"codes": list(OF_THE_PLACE)}).all()
    if units:
        session.execute(_REOPEN, key)
    return len(units)
