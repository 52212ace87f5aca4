"""Writes the appearances of an analysis, and the appearance of each face."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.rows import copy_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from worker.analysis.tracking.appearances import Appearance, Verdict

APPEARANCE_COLUMNS = (
    "appearance_id", "analysis_id", "media_id", "release_id", "ordinal", "start_seconds", "end_seconds",
    "screen_seconds", "face_count", "best_face_id", "age", "age_low", "age_high", "gender", "gender_confidence",
    "ethnicity", "ethnicity_confidence", "emotion", "emotion_confidence", "emotions", "attributes", "quality",
    "embedding",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Owner:
    """The analysis that appearances belong to."""

    analysis_id: int
    media_id: int
    release_id: int


def insert_appearances(session: Session, owner: Owner, ids: Sequence[int], appearances: Sequence[Appearance]) -> None:
    """Copy appearances.

    Args:
        session: an open session.
        owner: their analysis.
        ids: ``appearance_id`` of each.
        appearances: some of its appearances, whose ``best_face`` is a ``face_id``.
    """
    key = (owner.analysis_id, owner.media_id, owner.release_id)
    rows = [(number, *key, *_row(one)) for number, one in zip(ids, appearances, strict=True)]
    if rows:
        copy_rows(session, "appearance", APPEARANCE_COLUMNS, rows)


def assign_faces(session: Session, faces: NDArray[np.int64], appearances: NDArray[np.int64]) -> None:
    """Write the appearance of N stored faces; faces with -1 belong to none and stay as they are."""
    rows = np.flatnonzero(appearances >= 0)
    session.execute(
        text("""UPDATE face SET appearance_id = pair.appearance_id
                FROM unnest(cast(:faces AS bigint[]), cast(:appearances AS bigint[])) AS pair(face_id, appearance_id)
                WHERE face.face_id = pair.face_id"""),
        {"faces": faces[rows].tolist(), "appearances": appearances[rows].tolist()},
    )


def _row(appearance: Appearance) -> tuple[object, ...]:
    age = appearance.age
    return (
        appearance.number,
        appearance.start_seconds,
        appearance.end_seconds,
        appearance.screen_seconds,
        appearance.face_count,
        appearance.best_face,
        *((age.value, age.low, age.high) if age is not None else (None, None, None)),
        *_label_and_confidence(appearance.gender),
        *_label_and_confidence(appearance.ethnicity),
        *_label_and_confidence(appearance.emotion),
        _json(appearance.emotions),
        _json(appearance.attributes),
        appearance.quality,
        appearance.embedding if appearance.embedding.any() else None,
    )


def _label_and_confidence(verdict: Verdict | None) -> tuple[str | None, float | None]:
    return (None, None) if verdict is None else (verdict.label, verdict.confidence)


def _json(shares: Mapping[str, float]) -> str | None:
    return json.dumps({label: round(share, 4) for label, share in shares.items()}) if shares else None
