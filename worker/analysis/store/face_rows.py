"""Rows of faces: those of many units are copied together, column by column, each row under the layer that decided it.

Faces, and the strips of their crops, belong to the finder of the release, embeddings to its trunk, predictions to its
readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from db.base import EMBEDDING_DIMENSION
from db.bulk.codes import encode_landmarks
from db.bulk.columns import Nullable, copy_columns
from db.bulk.rows import allocate_ids
from worker.analysis.store.appearance_rows import NewAppearance, Owner, insert_appearances
from worker.analysis.store.rows import is_rejected
from worker.storage.crops import strip_folder
from worker.types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.columns import Values
    from worker.analysis.results import StoredFaces, UnitResult
    from worker.analysis.tracking.joining import Joined
    from worker.ledger.releases import ReleaseIds
    from worker.ledger.units import LeasedUnit
    from worker.types import HeadRows

    Ints = NDArray[np.int64]
    Block = tuple[int, Mapping[str, Values]]


def strip_name(unit: LeasedUnit, strip: int) -> str:
    """Return the name of a strip of crops; it holds the token, so that a lost lease overwrites nothing stored."""
    return f"{strip_folder(unit.sha256, unit.analysis_id)}/{unit.ordinal}-{unit.token}-{strip}.png"


@dataclass(frozen=True, slots=True, eq=False)
class CompleteUnit:
    """A unit to be stored."""

    result: UnitResult
    joined: Joined | None = None
    """Its appearances, if it is a whole analysis; ``best_face`` is a row of its faces."""


def store_rows(session: Session, units: Sequence[CompleteUnit], release: ReleaseIds) -> list[int]:
    """Write the faces of units with their crops, embeddings, predictions and appearances.

    Args:
        session: a transaction that wrote the outcomes of all these units.
        units: complete.
        release: that detected their faces.

    Returns:
        ``face_id`` of each face, in their order.
    """
    stored = [unit for unit in units if unit.result.face_count and not is_rejected(unit.result)]
    if not stored:
        return []
    count = sum(unit.result.face_count for unit in stored)
    batch = _Batch.of(stored, np.array(allocate_ids(session, "face", count), np.int64))
    new = _new_appearances(session, stored, batch.ids)
    copy_columns(session, "face", [(count, _faces(batch))])
    copy_columns(session, "crop_strip", [_strips(batch)])
    copy_columns(session, "face_embedding", [_embeddings(batch, _places(stored, new), release.trunk_id)])
    copy_columns(session, "prediction", _predictions(batch, release))
    insert_appearances(session, release, new)
    return [int(number) for number in batch.ids]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """The N faces of several units, end to end."""

    ids: Ints
    """(N,) ``face_id``."""
    parts: list[tuple[LeasedUnit, StoredFaces]]
    """In order, the faces of each detection batch with their unit."""
    numbers: Ints
    """(N,) numbers of the faces in their frames."""

    @classmethod
    def of(cls, units: Sequence[CompleteUnit], ids: Ints) -> _Batch:
        results = [unit.result for unit in units]
        parts = [(result.unit, faces) for result in results for faces in result.faces]
        frames = [np.concatenate([faces.frame_index for faces in result.faces]) for result in results]
        return cls(ids, parts, np.concatenate([_face_numbers(index) for index in frames]))

    @property
    def faces(self) -> list[StoredFaces]:
        """The faces of each detection batch."""
        return [faces for _, faces in self.parts]

    def spread(self, values: Sequence[int]) -> Ints:
        """Return the value of each face, given that of each part."""
        return np.repeat(np.array(values, np.int64), [len(faces) for faces in self.faces])

    def joined(self, name: str, fill: float) -> NDArray[np.float64]:
        """Return a column that some parts may lack, filled there."""
        columns = [getattr(faces, name) for faces in self.faces]
        return np.concatenate(
            [np.full(len(faces), fill) if one is None else one for one, faces in zip(columns, self.faces, strict=True)]
        )


def _face_numbers(frame_index: Ints) -> Ints:
    """Number the faces of each frame from 0; those of one frame stand together."""
    _, first, inverse = np.unique(frame_index, return_index=True, return_inverse=True)
    numbers: Ints = np.arange(len(frame_index)) - first[inverse]
    return numbers


def _faces(batch: _Batch) -> dict[str, Values]:
    faces = batch.faces
    boxes = np.concatenate([part.boxes for part in faces]).astype(np.float32)
    sizes = [part.frame_size or (0, 0) for part in faces]
    strips, places = (batch.joined(name, -1) for name in ("crop_strip", "crop_index"))
    holds = batch.joined("hold_seconds", np.nan)
    has_size = batch.spread([part.frame_size is not None for part in faces]) > 0
    return {
        "face_id": batch.ids,
        "analysis_id": batch.spread([unit.analysis_id for unit, _ in batch.parts]),
        "unit_id": batch.spread([unit.unit_id for unit, _ in batch.parts]),
        "at_seconds": np.concatenate([part.at_seconds for part in faces]),
        "frame_index": np.concatenate([part.frame_index for part in faces]),
        "hold_seconds": Nullable(holds, ~np.isnan(holds)),
        **{name: boxes[:, edge] for edge, name in enumerate(("x1", "y1", "x2", "y2"))},
        "detection_score": np.concatenate([part.scores for part in faces]),
        "quality": np.concatenate([part.quality for part in faces]),
        "frame_width": Nullable(batch.spread([width for width, _ in sizes]), has_size),
        "frame_height": Nullable(batch.spread([height for _, height in sizes]), has_size),
        "strip_no": Nullable(strips, strips >= 0),
        "crop_index": Nullable(places, strips >= 0),
        "face_no": batch.numbers,
        "landmarks": encode_landmarks(np.concatenate([part.landmarks for part in faces]), boxes),
        "dropped_reason": [reason for part in faces for reason in part.dropped],
    }


def _strips(batch: _Batch) -> Block:
    """Return the strips of crops that some face has a place in."""
    found: dict[tuple[int, int], str] = {}
    for unit, faces in batch.parts:
        if faces.crop_strip is not None:
            numbers = np.unique(faces.crop_strip[faces.crop_strip >= 0]).tolist()
            found |= {(unit.unit_id, number): strip_name(unit, number) for number in numbers}
    keys = np.array(list(found), np.int64).reshape(-1, 2)
    return len(found), {"unit_id": keys[:, 0], "strip_no": keys[:, 1], "uri": list(found.values())}


def _places(units: Sequence[CompleteUnit], new: Sequence[NewAppearance]) -> Ints:
    """Return the (N,) ``appearance_id`` of each face, -1 for none."""
    ids = np.array([*(one.appearance_id for one in new), -1], np.int64)
    places, first = [], 0
    for unit in units:
        if unit.joined is None:
            places.append(np.full(unit.result.face_count, -1))
            continue
        numbers = unit.joined.numbers
        places.append(ids[np.where(numbers >= 0, first + numbers, -1)])
        first += len(unit.joined.complete)
    return np.concatenate(places)


def _new_appearances(session: Session, units: Sequence[CompleteUnit], faces: Ints) -> list[NewAppearance]:
    """Number the appearances of units; a unit's numbers are in the order of its appearances."""
    joined = [unit.joined for unit in units if unit.joined is not None]
    ids = iter(allocate_ids(session, "appearance", sum(len(one.complete) for one in joined)))
    new, first = [], 0
    for unit in units:
        owner = Owner(unit.result.unit.analysis_id, unit.result.unit.media_id)
        for appearance in () if unit.joined is None else unit.joined.complete:
            best = int(faces[first + appearance.best_face])
            new.append(NewAppearance(next(ids), owner, appearance, best))
        first += unit.result.face_count
    return new


def _embeddings(batch: _Batch, appearances: Ints, trunk_id: int) -> Block:
    """Return the faces that have an embedding, or belong to an appearance."""
    embeddings = np.zeros((len(batch.ids), EMBEDDING_DIMENSION), np.float32)
    has_embedding = np.zeros(len(batch.ids), np.bool_)
    first = 0
    for faces in batch.faces:
        if faces.embeddings is not None:
            rows = faces.kept
            embeddings[first + rows] = faces.embeddings[rows]
            has_embedding[first + rows] = True
        first += len(faces)
    rows = np.flatnonzero(has_embedding | (appearances >= 0))
    return len(rows), {
        "face_id": batch.ids[rows],
        "trunk_id": trunk_id,
        "appearance_id": Nullable(appearances[rows], appearances[rows] >= 0),
        "embedding": Nullable(embeddings[rows], has_embedding[rows]),
    }


def _predictions(batch: _Batch, release: ReleaseIds) -> Iterator[Block]:
    """Return the predictions of kept faces, a block for each task."""
    tasks = dict.fromkeys(task for faces in batch.faces for task in faces.heads)
    for task in tasks:
        ids, heads, first = [], [], 0
        for faces in batch.faces:
            if task in faces.heads:
                ids.append(batch.ids[first + faces.kept])
                heads.append((faces.heads[task], faces.kept))
            first += len(faces)
        face_ids = np.concatenate(ids)
        yield len(face_ids), {"face_id": face_ids, "reading_id": release.readings[task], **answers(heads)}


def answers(parts: Sequence[tuple[HeadRows, Ints]]) -> dict[str, Values]:
    """Return the columns of one head's predictions: label, or value with interval, and always its scores.

    Args:
        parts: rows of the head, and those of them that are taken.
    """

    def rows_of(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(head, name)[rows] for head, rows in parts])

    like = parts[0][0]
    columns: dict[str, Values] = dict.fromkeys(("confidence", "value", "low", "high", "label"))
    columns["scores"] = rows_of("codes")
    if like.value is not None:
        columns |= {name: rows_of(name) for name in ("value", "low", "high")}
    elif not like.is_multi_label:
        probabilities = rows_of("probabilities")
        best = probabilities.argmax(axis=1)
        abstains = np.zeros(len(best), np.bool_) if like.abstains is None else rows_of("abstains")
        columns["confidence"] = probabilities[np.arange(len(best)), best]
        columns["label"] = [
            UNKNOWN if is_unknown else like.labels[row]
            for row, is_unknown in zip(best.tolist(), abstains.tolist(), strict=True)
        ]
    return columns
