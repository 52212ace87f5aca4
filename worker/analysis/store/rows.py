"""Store stage: a unit's faces, predictions and state in one transaction, all or nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.rows import allocate_ids, copy_rows
from worker.ledger import units as ledger
from worker.storage.crops import strip_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from worker.analysis.results import StoredFaces, UnitResult
    from worker.ledger.units import LeasedUnit
    from worker.types import HeadRows

FACE_COLUMNS = (
    "face_id", "analysis_id", "unit_id", "media_id", "release_id", "frame_index", "at_seconds", "face_no",
    "frame_width", "frame_height", "hold_seconds", "x1", "y1", "x2", "y2", "landmarks", "detection_score", "quality",
    "dropped_reason", "crop_uri", "crop_index", "embedding", "appearance_id",
)  # fmt: skip
PREDICTION_COLUMNS = (
    "face_id", "head", "release_id", "label", "value", "low", "high", "confidence", "probabilities", "attributes",
)  # fmt: skip
MULTI_LABEL_HEADS = frozenset({"attributes"})


def strip_name(unit: LeasedUnit, strip: int) -> str:
    """Return the name of a strip of crops; it holds the token, so that a lost lease overwrites nothing stored."""
    return f"{strip_folder(unit.sha256, unit.analysis_id)}/{unit.ordinal}-{unit.token}-{strip}.png"


def store_unit(
    session: Session, result: UnitResult, release_id: int, appearances: Sequence[int | None] | None = None
) -> list[int]:
    """Write a complete unit.

    Args:
        session: an open session.
        result: N faces.
        release_id: the release that detected them.
        appearances: (N,) ``appearance_id`` of each face; None where they are not known yet.

    Returns:
        (N,) ``face_id`` of each.

    Raises:
        LeaseLostError: another worker holds or ended the unit; nothing is written.
    """
    unit = result.unit
    outcome: ledger.Outcome = "rejected" if result.error is not None and not result.frame_count else "done"
    ledger.finish_unit(session, unit, outcome, _note(result), _effort(result))
    _store_info(session, result)
    if outcome == "done":
        _store_notes(session, result)
        _store_cuts(session, result)
        return _store_faces(session, result, release_id, appearances or [None] * result.face_count)
    return []


def _note(result: UnitResult) -> str | None:
    if result.error is None:
        return None
    if not result.frame_count:
        return result.error.reason
    start = result.unit.start_seconds or 0.0
    return f"read in part, from {start:g} s {result.frame_count} sampled frames: {result.error.reason}"


def _store_info(session: Session, result: UnitResult) -> None:
    """Store format, size and length of the file; the length stays empty where the container does not state it."""
    info = result.info
    if info is None:
        return
    statement = text("""UPDATE media_file SET format = :format, width = :width, height = :height,
                        duration_seconds = :duration, frames_per_second = :fps
                        WHERE media_id = :media_id AND width IS NULL""")
    parameters = {
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "duration": info.duration_seconds,
        "fps": info.frames_per_second,
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


def _store_faces(session: Session, result: UnitResult, release_id: int, appearances: Sequence[int | None]) -> list[int]:
    if not result.faces:
        return []
    ids = allocate_ids(session, "face", result.face_count)
    numbers = _face_numbers(np.concatenate([faces.frame_index for faces in result.faces]))
    rows = _face_rows(result, release_id, ids, numbers)
    placed = ((*row, appearance) for row, appearance in zip(rows, appearances, strict=True))
    copy_rows(session, "face", FACE_COLUMNS, placed)
    copy_rows(session, "prediction", PREDICTION_COLUMNS, _prediction_rows(result.faces, release_id, ids))
    return ids


def _face_numbers(frame_index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    """Number the faces of each frame from 0; rows are ordered by frame."""
    _, first, inverse = np.unique(frame_index, return_index=True, return_inverse=True)
    return [int(number) for number in np.arange(len(frame_index)) - first[inverse]]


def _face_rows(
    result: UnitResult, release_id: int, ids: Sequence[int], numbers: Sequence[int]
) -> Iterator[tuple[object, ...]]:
    unit = result.unit
    row = 0
    for faces in result.faces:
        for i in range(len(faces)):
            has_crop = faces.crop_strip is not None and faces.crop_strip[i] >= 0
            yield (
                ids[row],
                unit.analysis_id,
                unit.unit_id,
                unit.media_id,
                release_id,
                int(faces.frame_index[i]),
                float(faces.at_seconds[i]),
                numbers[row],
                *(faces.frame_size or (None, None)),
                None if faces.hold_seconds is None else float(faces.hold_seconds[i]),
                *(float(edge) for edge in faces.boxes[i]),
                [float(part) for part in faces.landmarks[i].ravel()],
                float(faces.scores[i]),
                float(faces.quality[i]),
                faces.dropped[i],
                strip_name(unit, int(faces.crop_strip[i])) if has_crop and faces.crop_strip is not None else None,
                int(faces.crop_index[i]) if has_crop and faces.crop_index is not None else None,
                faces.embeddings[i] if faces.embeddings is not None and faces.dropped[i] is None else None,
            )
            row += 1


def _prediction_rows(parts: Sequence[StoredFaces], release_id: int, ids: Sequence[int]) -> Iterator[tuple[object, ...]]:
    offset = 0
    for faces in parts:
        for task, head in faces.heads.items():
            for i in faces.kept:
                yield (ids[offset + int(i)], task, release_id, *_prediction(task, head, int(i)))
        offset += len(faces)


def _prediction(task: str, head: HeadRows, row: int) -> tuple[object, ...]:
    """Return label, value, low, high, confidence, probabilities and attributes of one face under one head."""
    probabilities = [float(p) for p in head.probabilities[row]]
    if task in MULTI_LABEL_HEADS:
        attributes = {label: round(p, 4) for label, p in zip(head.labels, probabilities, strict=True)}
        return (None, None, None, None, None, probabilities, json.dumps(attributes))
    if head.value is not None and head.low is not None and head.high is not None:
        return (None, float(head.value[row]), float(head.low[row]), float(head.high[row]), None, probabilities, None)
    best = int(np.argmax(head.probabilities[row]))
    unknown = head.abstains is not None and bool(head.abstains[row])
    return ("unknown" if unknown else head.labels[best], None, None, None, probabilities[best], probabilities, None)
