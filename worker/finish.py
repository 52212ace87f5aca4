"""Finish stage: when the last unit of an analysis is stored, its faces become appearances, in the same transaction.

Appearances are built over the stored rows of the whole file, so that the borders between units cut nothing and the
order in which workers finished them does not matter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.copy import allocate_ids, copy_rows
from worker import ledger
from worker.appearances import AppearanceFaces, summarise
from worker.locks import lock_files
from worker.track import TrackInput, track
from worker.values import HeadRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from worker.appearances import Appearance, Verdict

APPEARANCE_COLUMNS = (
    "appearance_id", "analysis_id", "media_id", "release_id", "ordinal", "start_seconds", "end_seconds", "face_count",
    "best_face_id", "age", "age_low", "age_high", "gender", "gender_confidence", "ethnicity", "ethnicity_confidence",
    "emotion", "emotion_confidence", "emotions", "attributes", "quality", "embedding",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What the release says of one of its heads."""

    labels: tuple[str, ...]
    threshold: float
    """Mean probability below which the answer is 'unknown'; 0 for a head that always answers."""


@dataclass(frozen=True, slots=True)
class _Faces:
    """The N stored faces of an analysis, in order of frame and number."""

    ids: NDArray[np.int64]
    tracked: TrackInput
    heads: dict[str, HeadRows]


def finish_analysis(session: Session, analysis_id: int, heads: Mapping[str, HeadSpec]) -> None:
    """Close an analysis if its last unit has ended; until then do nothing.

    Args:
        session: the transaction in which that unit was stored.
        analysis_id: the analysis that the unit belongs to.
        heads: by task, the heads of the release.
    """
    outcome = ledger.settle_analysis(session, analysis_id)
    if outcome is None:
        return
    if outcome.faces and outcome.state in {"done", "quarantined"}:
        _build_appearances(session, analysis_id, heads)
    ledger.close_analysis(session, analysis_id, outcome)


def finish_forgotten(session: Session, release_id: int, heads: Mapping[str, HeadSpec]) -> list[int]:
    """Close analyses whose last unit was given up while nobody was there to notice; returns which they were.

    Every other end of a unit closes its analysis in the same transaction.
    """
    forgotten = session.execute(
        text("""SELECT DISTINCT q.analysis_id, a.media_id FROM unit q JOIN analysis a USING (analysis_id)
                WHERE q.state = 'quarantined' AND q.release_id = :release_id AND a.state = 'pending' AND NOT EXISTS
                (SELECT FROM unit u WHERE u.analysis_id = q.analysis_id AND u.state IN ('pending', 'leased'))"""),
        {"release_id": release_id},
    ).all()
    lock_files(session, (row.media_id for row in forgotten))
    for row in forgotten:
        finish_analysis(session, int(row.analysis_id), heads)
    return [int(row.analysis_id) for row in forgotten]


def _build_appearances(session: Session, analysis_id: int, specs: Mapping[str, HeadSpec]) -> None:
    faces = _load_faces(session, analysis_id, specs)
    if not len(faces.tracked):
        return
    interval = session.execute(
        text("SELECT sample_interval_seconds FROM analysis WHERE analysis_id = :id"), {"id": analysis_id}
    ).scalar_one()
    cuts = session.scalars(
        text("SELECT at_seconds FROM scene_cut WHERE analysis_id = :id ORDER BY at_seconds"), {"id": analysis_id}
    ).all()
    numbers = track(faces.tracked, [float(cut) for cut in cuts], sample_interval_seconds=interval)
    seen = AppearanceFaces(
        appearance=numbers,
        at_seconds=faces.tracked.at_seconds,
        quality=faces.tracked.quality,
        kept=faces.tracked.has_embedding,
        embeddings=faces.tracked.embeddings,
    )
    thresholds = {task: spec.threshold for task, spec in specs.items()}
    _store(session, analysis_id, faces.ids, summarise(seen, faces.heads, abstention=thresholds))


def _load_faces(session: Session, analysis_id: int, specs: Mapping[str, HeadSpec]) -> _Faces:
    rows = session.execute(
        text("""SELECT face_id, frame_index, at_seconds, ARRAY[x1 * x, y1 * y, x2 * x, y2 * y], detection_score,
                       quality, cast(embedding AS real[])
                FROM face JOIN media_file m USING (media_id)
                -- Frames of one file may differ in size: boxes are compared as parts of their frames.
                CROSS JOIN LATERAL (SELECT coalesce(m.width / cast(frame_width AS real), 1) AS x,
                                           coalesce(m.height / cast(frame_height AS real), 1) AS y) AS scale
                WHERE analysis_id = :id ORDER BY frame_index, face_no"""),
        {"id": analysis_id},
    ).all()
    ids, frames, times, boxes, scores, quality, embeddings = zip(*rows, strict=True) if rows else ([],) * 7
    dimension = next((len(e) for e in embeddings if e is not None), 128)
    tracked = TrackInput(
        frame_index=np.array(frames, np.int64),
        at_seconds=np.array(times, np.float64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        quality=np.array(quality, np.float32),
        embeddings=_stack(embeddings, dimension),
        has_embedding=np.array([e is not None for e in embeddings], np.bool_),
    )
    face_ids = np.array(ids, np.int64)
    return _Faces(face_ids, tracked, _load_heads(session, analysis_id, face_ids, specs))


def _stack(embeddings: Sequence[list[float] | None], dimension: int) -> NDArray[np.float32]:
    stacked = np.zeros((len(embeddings), dimension), np.float32)
    for row, embedding in enumerate(embeddings):
        if embedding is not None:
            stacked[row] = embedding
    return stacked


def _load_heads(
    session: Session, analysis_id: int, face_ids: NDArray[np.int64], specs: Mapping[str, HeadSpec]
) -> dict[str, HeadRows]:
    """Read the predictions of an analysis, head by head; rows of dropped faces stay zero."""
    row_of = {int(face_id): row for row, face_id in enumerate(face_ids)}
    statement = text("""SELECT p.face_id, p.value, p.low, p.high, p.probabilities
                        FROM prediction p JOIN face f USING (face_id) WHERE f.analysis_id = :id AND p.head = :head""")
    heads = {}
    for task, spec in specs.items():
        found = session.execute(statement, {"id": analysis_id, "head": task}).all()
        if not found:
            continue
        rows = [row_of[row.face_id] for row in found]
        probabilities = np.zeros((len(face_ids), len(spec.labels)), np.float32)
        probabilities[rows] = [row.probabilities for row in found]
        if found[0].value is None:
            heads[task] = HeadRows(spec.labels, probabilities)
        else:
            numbers = np.zeros((3, len(face_ids)), np.float32)
            numbers[:, rows] = np.array([(row.value, row.low, row.high) for row in found], np.float32).T
            heads[task] = HeadRows(spec.labels, probabilities, *numbers)
    return heads


def _store(session: Session, analysis_id: int, face_ids: NDArray[np.int64], appearances: Sequence[Appearance]) -> None:
    ids = allocate_ids(session, "appearance", len(appearances))
    owner = session.execute(
        text("SELECT media_id, release_id FROM analysis WHERE analysis_id = :id"), {"id": analysis_id}
    ).one()
    key = (analysis_id, int(owner.media_id), int(owner.release_id))
    rows = (
        (appearance_id, *key, *_row(appearance, face_ids))
        for appearance_id, appearance in zip(ids, appearances, strict=True)
    )
    copy_rows(session, "appearance", APPEARANCE_COLUMNS, rows)
    pairs = list(_members(ids, appearances, face_ids))
    session.execute(
        text("""UPDATE face SET appearance_id = pair.appearance_id
                FROM unnest(cast(:faces AS bigint[]), cast(:appearances AS bigint[])) AS pair(face_id, appearance_id)
                WHERE face.face_id = pair.face_id"""),
        {"faces": [face for face, _ in pairs], "appearances": [appearance for _, appearance in pairs]},
    )


def _members(
    ids: Sequence[int], appearances: Sequence[Appearance], face_ids: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    for appearance_id, appearance in zip(ids, appearances, strict=True):
        for row in appearance.rows:
            yield int(face_ids[row]), appearance_id


def _row(appearance: Appearance, face_ids: NDArray[np.int64]) -> tuple[object, ...]:
    age = appearance.age
    return (
        appearance.number,
        appearance.start_seconds,
        appearance.end_seconds,
        appearance.face_count,
        int(face_ids[appearance.best_face]),
        *((age.value, age.low, age.high) if age is not None else (None, None, None)),
        *_said(appearance.gender),
        *_said(appearance.ethnicity),
        *_said(appearance.emotion),
        _json(appearance.emotions),
        _json(appearance.attributes),
        appearance.quality,
        appearance.embedding if appearance.embedding.any() else None,
    )


def _said(verdict: Verdict | None) -> tuple[str | None, float | None]:
    return (None, None) if verdict is None else (verdict.label, verdict.confidence)


def _json(shares: Mapping[str, float]) -> str | None:
    return json.dumps({label: round(share, 4) for label, share in shares.items()}) if shares else None
