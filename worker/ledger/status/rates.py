"""Rates of this deployment, from the units that ended last: frames a second, faces a frame, bytes a face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

LATEST_UNITS = 2000

# The time in which at least one of these units was worked on: pauses between jobs do not count.
_PACE = text("""
    WITH latest AS (
        SELECT frame_count, face_count, started_at, finished_at FROM unit
        WHERE state = 'done' AND stage = 'analyse' AND frame_count > 0 AND started_at < finished_at
        ORDER BY finished_at DESC LIMIT :limit),
    busy AS (SELECT unnest(range_agg(tstzrange(started_at, finished_at))) AS span FROM latest)
    SELECT sum(frame_count)::float8 AS frames, sum(face_count)::float8 AS faces,
           (SELECT extract(epoch FROM sum(upper(span) - lower(span)))::float8 FROM busy) AS seconds
    FROM latest""")
_ROOM = text("""
    SELECT sum(pg_table_size(name::regclass))::float8
           / greatest(1, (SELECT sum(face_count) FROM analysis))::float8
    FROM unnest(ARRAY['face', 'face_embedding', 'prediction', 'appearance', 'appearance_prediction', 'crop_strip'])
         AS name""")


@dataclass(frozen=True, slots=True)
class Rates:
    """Means over the units that ended last, of all processes together."""

    frames_per_second: float
    faces_per_frame: float
    bytes_per_face: float
    """Of rows, without crops."""


def read_rates(session: Session) -> Rates | None:
    """Read the rates; None where nothing was analysed yet."""
    pace = session.execute(_PACE, {"limit": LATEST_UNITS}).one()
    if not pace.frames or not pace.seconds:
        return None
    room = float(session.execute(_ROOM).scalar_one() or 0)
    return Rates(pace.frames / pace.seconds, pace.faces / pace.frames, room)
