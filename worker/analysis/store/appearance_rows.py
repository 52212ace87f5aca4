"""Writes the appearances of analyses with their predictions, and the appearance of each face."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.codes import encode_probabilities
from db.bulk.columns import Nullable, copy_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.columns import Values
    from worker.analysis.tracking.appearances import Age, Appearance, Verdict
    from worker.ledger.releases import ReleaseIds

    Ints = NDArray[np.int64]
    Block = tuple[int, Mapping[str, Values]]

# The columns of a prediction; each head fills some.
_EMPTY = dict.fromkeys(
    ("appearance_id", "reading_id", "confidence", "value", "low", "high", "label", "shares", "scores")
)
_MOVE = text("""
    UPDATE face_embedding AS e SET appearance_id = pair.appearance_id
    FROM unnest(cast(:faces AS bigint[]), cast(:appearances AS bigint[])) AS pair(face_id, appearance_id)
    WHERE e.face_id = pair.face_id AND e.trunk_id = :trunk_id""")
_PLACE = text("""
    INSERT INTO face_embedding (face_id, trunk_id, appearance_id)
    SELECT face_id, :trunk_id, appearance_id
    FROM unnest(cast(:faces AS bigint[]), cast(:appearances AS bigint[])) AS pair(face_id, appearance_id)
    ON CONFLICT (face_id, trunk_id) DO UPDATE SET appearance_id = excluded.appearance_id""")


@dataclass(frozen=True, slots=True)
class Owner:
    """The analysis that appearances belong to."""

    analysis_id: int
    media_id: int


@dataclass(frozen=True, slots=True, eq=False)
class NewAppearance:
    """An appearance that is about to be written."""

    appearance_id: int
    owner: Owner
    appearance: Appearance
    best_face_id: int


def insert_appearances(session: Session, release: ReleaseIds, new: Sequence[NewAppearance]) -> None:
    """Copy appearances and their predictions.

    Args:
        session: an open session.
        release: whose trunk and readings decided them.
        new: of one analysis or several.
    """
    if new:
        copy_columns(session, "appearance", [(len(new), _appearances(new, release.trunk_id))])
        insert_predictions(session, release.readings, [(one.appearance_id, one.appearance) for one in new])


def insert_predictions(session: Session, readings: Mapping[str, int], given: Sequence[tuple[int, Appearance]]) -> int:
    """Copy the predictions of appearances; return how many rows there are.

    Args:
        session: an open session.
        readings: by task, those that decided them; answers of other tasks are left out.
        given: ``appearance_id`` and answers of each.
    """
    return copy_columns(session, "appearance_prediction", _predictions(given, readings))


def assign_faces(session: Session, trunk_id: int, faces: Ints, appearances: Ints, kept: NDArray[np.bool_]) -> None:
    """Write the appearance of N stored faces.

    Args:
        session: an open session.
        trunk_id: that decided it.
        faces: (N,) ``face_id``.
        appearances: (N,) ``appearance_id``; faces with -1 belong to none and stay as they are.
        kept: (N,) True for a face with an embedding, so with a row already.
    """
    for statement, chosen in ((_MOVE, kept), (_PLACE, ~kept)):
        rows = np.flatnonzero((appearances >= 0) & chosen)
        if len(rows):
            values = {"faces": faces[rows].tolist(), "appearances": appearances[rows].tolist(), "trunk_id": trunk_id}
            session.execute(statement, values)


def _appearances(new: Sequence[NewAppearance], trunk_id: int) -> dict[str, Values]:
    appearances = [one.appearance for one in new]
    embeddings = np.stack([one.embedding for one in appearances])

    def column(name: str) -> NDArray[np.generic]:
        return np.array([getattr(one, name) for one in appearances])

    return {
        "appearance_id": np.array([one.appearance_id for one in new]),
        "analysis_id": np.array([one.owner.analysis_id for one in new]),
        "media_id": np.array([one.owner.media_id for one in new]),
        "start_seconds": column("start_seconds"),
        "end_seconds": column("end_seconds"),
        "screen_seconds": column("screen_seconds"),
        "best_face_id": np.array([one.best_face_id for one in new]),
        "trunk_id": trunk_id,
        "ordinal": column("number"),
        "face_count": column("face_count"),
        "quality": column("quality"),
        "embedding": Nullable(embeddings, np.array([bool(one.embedding.any()) for one in appearances])),
    }


def _predictions(given: Sequence[tuple[int, Appearance]], readings: Mapping[str, int]) -> Iterator[Block]:
    """Return the predictions of appearances, a block for each task."""
    blocks = {
        "age": _ages([(key, one.age) for key, one in given if one.age]),
        "gender": _labels([(key, one.gender) for key, one in given if one.gender]),
        "ethnicity": _labels([(key, one.ethnicity) for key, one in given if one.ethnicity]),
        "emotion": _emotions([(key, one.emotion, one.emotions) for key, one in given if one.emotion]),
        "attributes": _attributes([(key, one.attributes) for key, one in given if one.attributes]),
    }
    for task, (count, columns) in blocks.items():
        if count and task in readings:
            yield count, {**_EMPTY, "reading_id": readings[task], **columns}


def _ages(given: Sequence[tuple[int, Age]]) -> Block:
    numbers = np.array([(age.value, age.low, age.high) for _, age in given]).reshape(-1, 3)
    return len(given), _ids(given) | dict(zip(("value", "low", "high"), numbers.T, strict=True))


def _labels(given: Sequence[tuple[int, Verdict]]) -> Block:
    confidence = np.array([verdict.confidence for _, verdict in given])
    labels: list[str | None] = [verdict.label for _, verdict in given]
    return len(given), _ids(given) | {"label": labels, "confidence": confidence}


def _emotions(given: Sequence[tuple[int, Verdict, Mapping[str, float]]]) -> Block:
    rounded = [{label: round(share, 4) for label, share in one.items()} for _, _, one in given]
    shares: list[str | None] = [json.dumps(one) for one in rounded]
    count, columns = _labels([(key, verdict) for key, verdict, _ in given])
    return count, {**columns, "shares": shares}


def _attributes(given: Sequence[tuple[int, Mapping[str, float]]]) -> Block:
    means = np.array([list(one.values()) for _, one in given])
    return len(given), _ids(given) | {"scores": encode_probabilities(means) if given else None}


def _ids(given: Sequence[tuple[int, object]]) -> dict[str, Values]:
    return {"appearance_id": np.array([key for key, _ in given], np.int64)}
