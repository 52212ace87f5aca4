"""Reads the stored faces of an analysis with their predictions, in blocks of whole frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sqlalchemy import text

from db.base import EMBEDDING_DIMENSION
from db.bulk.arrays import Codes, read_rows
from models.readings import reread
from worker.analysis.tracking.joining import Shots
from worker.analysis.tracking.track import TrackInput
from worker.types import HeadRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import AnyType, ColumnType
    from worker.ledger.releases import HeadSpec, ReleaseIds

BLOCK_FACES = 4096  # some 10 MB with embeddings and heads; a frame with more of them is read whole
HEADS = ("gender", "age", "ethnicity", "emotion", "attributes")  # tasks that appearances aggregate

_FACE: Mapping[str, ColumnType] = {
    "face_id": "bigint", "frame_index": "bigint", "at_seconds": "double precision",
    "x1": "real", "y1": "real", "x2": "real", "y2": "real", "detection_score": "real", "quality": "real",
    "hold_seconds": "double precision", "kept": "boolean", "embedding": "halfvec",
}  # fmt: skip
# The order is that of an index: a block reads its own rows, however many there are. Frames of one file may differ in
# size: boxes are compared as parts of their frames.
_FACES = """
    SELECT f.face_id, frame_index::bigint, at_seconds, (x1 * x)::real, (y1 * y)::real, (x2 * x)::real, (y2 * y)::real,
           detection_score, quality, coalesce(hold_seconds::double precision, 'NaN'), e.embedding IS NOT NULL,
           coalesce(e.embedding, array_fill(0::real, ARRAY[%(dimension)s])::halfvec)
    FROM facet.face AS f JOIN facet.analysis USING (analysis_id) JOIN facet.media_file AS m USING (media_id)
    LEFT JOIN facet.face_embedding AS e ON e.face_id = f.face_id AND e.trunk_id = %(trunk_id)s
    CROSS JOIN LATERAL (SELECT coalesce(m.width / frame_width::real, 1) AS x,
                               coalesce(m.height / frame_height::real, 1) AS y) AS scale
    WHERE analysis_id = %(analysis_id)s AND frame_index >= %(first)s
    ORDER BY f.frame_index, f.face_no LIMIT %(limit)s"""
_NUMBERS = """
    SELECT face_id, value, low, high FROM facet.prediction
    WHERE face_id = ANY(%(faces)s::bigint[]) AND reading_id = %(reading)s"""
# Scores stand in one row of a face and head, whichever reading of the head it belongs to.
_SCORES = """
    SELECT face_id, coalesce(scores, (
        SELECT o.scores FROM facet.prediction AS o
        WHERE o.face_id = p.face_id AND o.scores IS NOT NULL AND o.reading_id IN (
            SELECT layer_id FROM facet.layer
            WHERE parent_id = (SELECT parent_id FROM facet.layer WHERE layer_id = %(reading)s))
        LIMIT 1))
    FROM facet.prediction AS p WHERE face_id = ANY(%(faces)s::bigint[]) AND reading_id = %(reading)s"""


@dataclass(frozen=True, slots=True)
class FaceBlock:
    """N faces of whole frames, in order of frame and number."""

    ids: NDArray[np.int64]
    """(N,) ``face_id``."""
    faces: TrackInput
    heads: dict[str, HeadRows]
    """By task, over the same faces; NaN where a face has no prediction."""


def read_shots(session: Session, analysis_id: int) -> Shots:
    """Read what bounds the appearances of an analysis."""
    key = {"id": analysis_id}
    interval = session.execute(text("SELECT sample_interval_seconds FROM analysis WHERE analysis_id = :id"), key)
    cuts = session.scalars(text("SELECT at_seconds FROM scene_cut WHERE analysis_id = :id ORDER BY at_seconds"), key)
    return Shots(cuts_seconds=cuts.all(), sample_interval_seconds=interval.scalar())


def read_face_blocks(
    session: Session, analysis_id: int, release: ReleaseIds, specs: Mapping[str, HeadSpec]
) -> Iterator[FaceBlock]:
    """Yield the faces of an analysis, about BLOCK_FACES at a time.

    Args:
        session: an open session; other statements may run between two blocks.
        analysis_id: the analysis.
        release: whose embeddings and predictions are read.
        specs: by task, the heads of the release.
    """
    first, limit = 0, BLOCK_FACES
    while True:
        key = {"analysis_id": analysis_id, "first": first, "limit": limit, "trunk_id": release.trunk_id}
        rows = read_rows(session, _FACES, _FACE, key | {"dimension": EMBEDDING_DIMENSION})
        whole = rows
        if len(rows) == limit:  # the last frame may continue behind them
            whole = rows[rows["frame_index"] < rows["frame_index"][-1]]
            if not len(whole):
                limit *= 2
                continue
        if len(whole):
            yield FaceBlock(whole["face_id"].copy(), _track_input(whole), _read_heads(session, whole, release, specs))
        if len(rows) < limit:
            return
        first, limit = int(rows["frame_index"][-1]), BLOCK_FACES


def _track_input(rows: NDArray[np.void]) -> TrackInput:
    return TrackInput(
        frame_index=rows["frame_index"].copy(),
        at_seconds=rows["at_seconds"].copy(),
        boxes=np.stack([rows[edge] for edge in ("x1", "y1", "x2", "y2")], axis=1),
        scores=rows["detection_score"].copy(),
        quality=rows["quality"].copy(),
        embeddings=np.ascontiguousarray(rows["embedding"]),
        has_embedding=rows["kept"].copy(),
        hold_seconds=rows["hold_seconds"].copy(),
    )


def _read_heads(
    session: Session, rows: NDArray[np.void], release: ReleaseIds, specs: Mapping[str, HeadSpec]
) -> dict[str, HeadRows]:
    kept = rows["face_id"][rows["kept"]].tolist()
    heads = {}
    for task in HEADS:
        if task in specs and kept:
            key = {"faces": kept, "reading": release.readings[task]}
            read = read_numbers if task == "age" else read_labels
            heads[task] = read(session, rows["face_id"], key, specs[task])
    return heads


def read_numbers(session: Session, faces: NDArray[np.int64], key: Mapping[str, object], _: HeadSpec) -> HeadRows:
    """Read values and intervals; ``key`` has the faces to look for and the reading. NaN where a face has none."""
    columns: dict[str, AnyType] = {"face_id": "bigint", "value": "real", "low": "real", "high": "real"}
    found = read_rows(session, _NUMBERS, columns, key)
    numbers = np.full((3, len(faces)), np.nan, np.float32)
    numbers[:, _places(faces, found)] = [found[name] for name in ("value", "low", "high")]
    return HeadRows((), np.zeros((len(faces), 0), np.float32), *numbers)


def read_labels(session: Session, faces: NDArray[np.int64], key: Mapping[str, object], spec: HeadSpec) -> HeadRows:
    """Read probabilities from scores; ``key`` has the faces to look for and the reading. NaN where a face has none."""
    found = read_rows(session, _SCORES, {"face_id": "bigint", "scores": Codes(len(spec.labels))}, key)
    output = reread(spec.branch, torch.from_numpy(found["scores"].astype(np.int32)))
    probabilities = np.full((len(faces), len(spec.labels)), np.nan, np.float32)
    probabilities[_places(faces, found)] = output.probabilities.numpy()
    return HeadRows(spec.labels, probabilities)


def _places(faces: NDArray[np.int64], found: NDArray[Any]) -> NDArray[np.int64]:
    """Return the row of each found face."""
    order = np.argsort(faces)
    return order[np.searchsorted(faces, found["face_id"], sorter=order)]
