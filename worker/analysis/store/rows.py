"""Store stage: the outcome of a unit, in one transaction with its rows, all or nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.bulk.rows import copy_rows
from worker.ledger import units as ledger

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.analysis.results import UnitResult


def end_unit(session: Session, result: UnitResult) -> None:
    """Write the outcome of a complete unit, without its faces.

    Raises:
        LeaseLostError: another worker holds or ended the unit; nothing is written.
    """
    outcome: ledger.Outcome = "rejected" if is_rejected(result) else "done"
    ledger.finish_unit(session, result.unit, outcome, _note(result), _effort(result))
    _store_info(session, result)
    if outcome == "done":
        _store_notes(session, result)
        _store_cuts(session, result)


def is_rejected(result: UnitResult) -> bool:
    """Whether nothing of the unit could be read, so that it has no rows."""
    return result.error is not None and not result.frame_count


def _note(result: UnitResult) -> str | None:
    if result.error is None:
        return None
    if not result.frame_count:
        return result.error.reason
    start = result.unit.start_seconds or 0.0
    return f"read in part, from {start:g} s {result.frame_count} sampled frames: {result.error.reason}"


def _store_info(session: Session, result: UnitResult) -> None:
    """Store format, size, length and metadata of the file, once; a later analysis adds metadata that none has read."""
    info = result.info
    if info is None:
        return
    statement = text("""UPDATE media_file SET format = :format, width = coalesce(width, :width),
                        height = coalesce(height, :height), duration_seconds = coalesce(duration_seconds, :duration),
                        frames_per_second = coalesce(frames_per_second, :fps), taken_at = :taken_at,
                        camera = :camera, latitude = :latitude, longitude = :longitude, title = :title,
                        tags = cast(:tags AS jsonb), orientation = :orientation
                        WHERE media_id = :media_id
                            AND (width IS NULL OR tags IS NULL OR orientation IS NULL)""")
    tags = info.tags
    parameters = {
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "duration": info.duration_seconds,
        "fps": info.frames_per_second,
        "taken_at": tags.taken_at,
        "camera": tags.camera,
        "latitude": tags.latitude,
        "longitude": tags.longitude,
        "title": tags.title,
        "tags": json.dumps(tags.more()),
        "orientation": info.orientation,
        "media_id": result.unit.media_id,
    }
    session.execute(statement, parameters)


def _effort(result: UnitResult) -> ledger.Effort:
    seconds = {stage: round(spent, 4) for stage, spent in result.stage_seconds.items()}
    return ledger.Effort(frames=result.frame_count, faces=result.face_count, stage_seconds=json.dumps(seconds))


def _store_notes(session: Session, result: UnitResult) -> None:
    if result.notes:
        parameters = {"notes": list(result.notes), "unit_id": result.unit.unit_id}
        session.execute(text("UPDATE unit SET notes = :notes WHERE unit_id = :unit_id"), parameters)


def _store_cuts(session: Session, result: UnitResult) -> None:
    unit = result.unit
    rows = [(unit.analysis_id, unit.unit_id, at) for at in result.cuts_seconds]
    if rows:
        copy_rows(session, "scene_cut", ("analysis_id", "unit_id", "at_seconds"), rows)
