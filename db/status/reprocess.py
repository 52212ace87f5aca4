"""Reprocess jobs that have not ended: how much is left, and what cannot be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_OPEN = text("""
    SELECT j.job_id, r.name AS release, j.paused_at IS NOT NULL AS is_paused,
           coalesce(sum(u.face_count) FILTER (WHERE u.state IN ('pending', 'leased')), 0) AS pending,
           coalesce(sum(u.face_count) FILTER (WHERE u.state = 'quarantined'), 0) AS quarantined,
           (SELECT coalesce(sum(g.face_count), 0) FROM facet.reprocess_gap AS g WHERE g.job_id = j.job_id) AS gaps
    FROM facet.job AS j
    JOIN facet.release AS r ON r.release_id = j.release_id
    LEFT JOIN facet.unit AS u ON u.job_id = j.job_id
    WHERE j.kind = 'reprocess' AND j.finished_at IS NULL AND j.cancelled_at IS NULL
    GROUP BY j.job_id, r.name
    ORDER BY j.job_id""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReprocessHealth:
    """A reprocess job that has not ended. Faces count once for each way that they take."""

    job_id: int
    release: str
    """Name of the release that it fills in."""
    is_paused: bool
    pending: int
    """Faces of batches that wait or are computed."""
    quarantined: int
    """Faces of batches that were given up."""
    gaps: int
    """Faces without any source."""


def read_reprocessing(session: Session) -> list[ReprocessHealth]:
    """Return the reprocess jobs that have not ended, the oldest first.

    Args:
        session: an open session.
    """
    return [
        ReprocessHealth(
            job_id=row.job_id,
            release=row.release,
            is_paused=row.is_paused,
            pending=int(row.pending),
            quarantined=int(row.quarantined),
            gaps=int(row.gaps),
        )
        for row in session.execute(_OPEN)
    ]
