"""Which faces stand on a contact sheet: the best one of each appearance, with what is known of the person."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.sheets import Tile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from worker.crops import CropStore

CROP_SIZE = 112  # pixels; aligned crops are squares of this side

_QUERY = text("""
    SELECT a.person_id, p.name, a.gender, a.gender_confidence, a.age, a.age_low, a.age_high, a.emotion,
           a.emotion_confidence, a.ethnicity, a.ethnicity_confidence, a.start_seconds, m.kind, m.uri,
           f.crop_uri, f.crop_index
    FROM appearances a
    JOIN face f ON f.face_id = a.best_face_id AND f.crop_uri IS NOT NULL
    JOIN media m ON m.media_id = a.media_id
    LEFT JOIN people p ON p.person_id = a.person_id
    WHERE (cast(:person AS bigint) IS NULL OR a.person_id = :person)
      AND (cast(:job AS bigint) IS NULL OR a.media_id IN (SELECT media_id FROM job_item WHERE job_id = :job))
    ORDER BY p.appearance_count DESC NULLS LAST, a.person_id, a.media_id, a.start_seconds
    LIMIT :limit""")


def load_tiles(
    session: Session, crops: CropStore, *, job_id: int | None = None, person_id: int | None = None, limit: int = 200
) -> list[Tile]:
    """Read the best face of each appearance, those of one person next to each other, the most seen person first."""
    rows = session.execute(_QUERY, {"job": job_id, "person": person_id, "limit": limit}).all()

    @lru_cache(maxsize=8)
    def strip(name: str) -> NDArray[np.uint8]:
        return crops.read(name, CROP_SIZE)

    return [
        Tile(pixels=strip(row.crop_uri)[row.crop_index], captions=_captions(row), group=_group(row)) for row in rows
    ]


def _group(row: Row[tuple[object, ...]]) -> str:
    if row.person_id is None:
        return "nobody yet"
    return f"{row.name} (person {row.person_id})" if row.name else f"person {row.person_id}"


def _captions(row: Row[tuple[object, ...]]) -> tuple[str, ...]:
    place = row.uri.replace("\\", "/").rpartition("/")[2]
    lines = [place if row.kind == "image" else f"{place} {_clock(row.start_seconds)}"]
    if row.age is not None:
        lines.append(f"{row.age:.0f} y ({row.age_low:.0f}-{row.age_high:.0f})")
    for label, confidence in (
        (row.gender, row.gender_confidence),
        (row.ethnicity, row.ethnicity_confidence),
        (row.emotion, row.emotion_confidence),
    ):
        if label is not None:
            lines.append(f"{label} {confidence:.2f}")
    return tuple(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
