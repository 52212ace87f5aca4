"""Where corrections hold on: places in files, found again whatever analysis of the file is the current one.

Appearances get new ids whenever a file is analysed again, by another release or at other times. So a correction keeps,
of each appearance that it speaks of, the file, the time and the box of its best face. The appearance itself is looked
up first; if it no longer counts, the face nearest in time whose box overlaps takes its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.arrays import read_rows
from worker.identity.corrections.replay import ResolvedCorrection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import ColumnType

    Ids = NDArray[np.int64]

MIN_OVERLAP = 0.3
"""Intersection over union of the boxes of one face at nearly the same time. Two faces of one frame overlap less: the
detector suppresses boxes from 0.4, and the larger overlap wins."""
MAX_SECONDS_OFF = 0.5
"""How far the time may be off, where the new sampling is not coarser than that: one step of the default sampling."""
ERASED = 0
"""Stands in a correction for somebody who was erased; no person has this number."""

_WRITE = text("""
    INSERT INTO correction_anchor (correction_id, anchor_no, side, media_id, at_seconds, x1, y1, x2, y2, appearance_id,
                                   from_person_id, to_person_id)
    SELECT :correction_id, spoken.place - 1, spoken.side, s.media_id, f.at_seconds, f.x1, f.y1, f.x2, f.y2,
           s.appearance_id, s.person_id, s.person_id
    FROM unnest(cast(:appearances AS bigint[]), cast(:sides AS smallint[]))
         WITH ORDINALITY AS spoken (appearance_id, side, place)
    JOIN appearance s USING (appearance_id)
    JOIN face f ON f.face_id = coalesce(s.best_face_id, (
        SELECT g.face_id FROM face g WHERE g.appearance_id = s.appearance_id
        ORDER BY g.quality DESC, g.face_id LIMIT 1))
    """)

_RESOLVED: Mapping[str, ColumnType] = {
    "correction_id": "bigint", "side": "bigint", "appearance_id": "bigint", "from_person_id": "bigint",
    "to_person_id": "bigint",
}  # fmt: skip

# A place whose appearance counts costs one look-up by key; the search for a face is for the others only.
_RESOLVE = f"""
    SELECT k.correction_id, k.side::bigint, coalesce(known.appearance_id, found.appearance_id, -1)::bigint,
           k.from_person_id, k.to_person_id
    FROM facet.correction c
    JOIN facet.correction_anchor k USING (correction_id)
    LEFT JOIN LATERAL (
        SELECT s.appearance_id
        FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
        WHERE s.appearance_id = k.appearance_id AND s.release_id = %(release_id)s AND a.is_current
    ) known ON true
    LEFT JOIN LATERAL (
        SELECT f.appearance_id
        FROM facet.analysis a
        JOIN facet.face f ON f.analysis_id = a.analysis_id AND f.media_id = k.media_id
        JOIN facet.appearance s ON s.appearance_id = f.appearance_id AND s.embedding IS NOT NULL
        CROSS JOIN LATERAL (
            SELECT greatest(0, least(f.x2, k.x2) - greatest(f.x1, k.x1))
                   * greatest(0, least(f.y2, k.y2) - greatest(f.y1, k.y1)) AS shared
        ) o
        CROSS JOIN LATERAL (
            SELECT o.shared / nullif((f.x2 - f.x1) * (f.y2 - f.y1) + (k.x2 - k.x1) * (k.y2 - k.y1) - o.shared, 0)
                   AS overlap
        ) b
        WHERE known.appearance_id IS NULL
          AND a.media_id = k.media_id AND a.release_id = %(release_id)s AND a.is_current
          AND f.at_seconds BETWEEN k.at_seconds - greatest({MAX_SECONDS_OFF}, a.sample_interval_seconds)
                               AND k.at_seconds + greatest({MAX_SECONDS_OFF}, a.sample_interval_seconds)
          AND b.overlap >= {MIN_OVERLAP}
        ORDER BY abs(f.at_seconds - k.at_seconds), b.overlap DESC, f.face_id
        LIMIT 1
    ) found ON true
    WHERE {{which}}
    ORDER BY k.correction_id, k.anchor_no"""  # noqa: S608 - constants
_ACTIVE = "c.undone_at IS NULL"
_ONE = "c.correction_id = %(correction_id)s"


def write_anchors(session: Session, correction_id: int, subject: Ids, rest: Ids) -> None:
    """Anchor a correction to the appearances that it speaks of, each with the person that it has now."""
    sides = np.repeat([0, 1], [len(subject), len(rest)])
    session.execute(
        _WRITE,
        {
            "correction_id": correction_id,
            "appearances": np.concatenate([subject, rest]).tolist(),
            "sides": sides.tolist(),
        },
    )


def has_anchors(session: Session, media: Ids) -> bool:
    """Whether any active correction has a place in any of some files."""
    statement = text("""SELECT EXISTS (SELECT FROM correction_anchor JOIN correction USING (correction_id)
                        WHERE undone_at IS NULL AND media_id = ANY(:media))""")
    return bool(session.execute(statement, {"media": np.unique(media).tolist()}).scalar_one())


def read_corrections(session: Session, release_id: int) -> list[ResolvedCorrection]:
    """Read the active corrections in order of time, their places found among the appearances of a release."""
    found = read_rows(session, _RESOLVE.format(which=_ACTIVE), _RESOLVED, {"release_id": release_id})
    heads = session.execute(
        text("SELECT correction_id, kind, name FROM correction WHERE undone_at IS NULL ORDER BY correction_id")
    ).all()
    starts = np.searchsorted(found["correction_id"], [head.correction_id for head in heads])
    ends = np.searchsorted(found["correction_id"], [head.correction_id for head in heads], side="right")
    words = []
    for head, start, end in zip(heads, starts, ends, strict=True):
        subject, rest = _sides(found[start:end])
        lost = int((found["appearance_id"][start:end] < 0).sum())
        words.append(
            ResolvedCorrection(head.correction_id, head.kind, subject=subject, rest=rest, name=head.name, lost=lost)
        )
    return words


def _sides(anchors: NDArray[np.void]) -> tuple[Ids, Ids]:
    """Split resolved places; who stands on both sides by now is on neither."""
    here = anchors["appearance_id"] >= 0
    first = np.unique(anchors["appearance_id"][here & (anchors["side"] == 0)])
    second = np.unique(anchors["appearance_id"][here & (anchors["side"] == 1)])
    both = np.intersect1d(first, second)
    return np.setdiff1d(first, both), np.setdiff1d(second, both)


def read_moves(session: Session, release_id: int, correction_id: int) -> NDArray[np.void]:
    """Read the places of one correction that are found, with the people they went from and to.

    Returns:
        Structured array with ``appearance_id``, ``from_person_id``, ``to_person_id``.
    """
    bounds = {"release_id": release_id, "correction_id": correction_id}
    found = read_rows(session, _RESOLVE.format(which=_ONE), _RESOLVED, bounds)
    return found[found["appearance_id"] >= 0]
