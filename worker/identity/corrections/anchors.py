"""Anchors of corrections: places in files, found again whichever analysis of the file is the current one.

Appearances have other ids under another trunk, and get new ones whenever a file is analysed again. So a correction
keeps, of each appearance that it concerns, the file, the time and the box of its best face. The appearance itself is
looked up first; if it no longer counts, the face nearest in time whose box overlaps takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.arrays import read_rows
from worker.columns import ArrayColumns
from worker.identity.corrections.replay import ResolvedCorrection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import ColumnType

    Ids = NDArray[np.int64]

# Intersection over union of the boxes of one face at nearly the same time. Two faces of one frame overlap less: the
# detector suppresses boxes from 0.4, and the larger overlap wins.
MIN_ANCHOR_OVERLAP = 0.3
# Largest difference in time where the new sampling is not coarser than that: one step of the default sampling.
MAX_SECONDS_OFF = 0.5
ERASED = 0  # stands in a correction for a person who was erased; no person has this number

_WRITE = text("""
    INSERT INTO correction_anchor (correction_id, anchor_no, side, media_id, at_seconds, x1, y1, x2, y2, appearance_id,
                                   from_person_id, to_person_id)
    SELECT :correction_id, given.place - 1, given.side, s.media_id, f.at_seconds, f.x1, f.y1, f.x2, f.y2,
           s.appearance_id, s.person_id, s.person_id
    FROM unnest(cast(:appearances AS bigint[]), cast(:sides AS smallint[]))
         WITH ORDINALITY AS given (appearance_id, side, place)
    JOIN appearance s USING (appearance_id)
    JOIN face f ON f.face_id = coalesce(s.best_face_id, (
        SELECT g.face_id FROM face_embedding e JOIN face g USING (face_id) WHERE e.appearance_id = s.appearance_id
        ORDER BY g.quality DESC, g.face_id LIMIT 1))
    """)

_RESOLVED: Mapping[str, ColumnType] = {
    "correction_id": "bigint", "side": "bigint", "appearance_id": "bigint", "from_person_id": "bigint",
    "to_person_id": "bigint",
}  # fmt: skip

# An anchor whose appearance counts costs one look-up by key; only the others are searched by time and box, among the
# faces of the appearances that are in view then.
_RESOLVE = f"""
    SELECT k.correction_id, k.side::bigint, coalesce(known.appearance_id, found.appearance_id, -1)::bigint,
           k.from_person_id, k.to_person_id
    FROM facet.correction c
    JOIN facet.correction_anchor k USING (correction_id)
    LEFT JOIN LATERAL (
        SELECT s.appearance_id
        FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
        WHERE s.appearance_id = k.appearance_id AND s.trunk_id = %(trunk_id)s AND a.is_current
    ) known ON true
    LEFT JOIN LATERAL (
        SELECT s.appearance_id
        FROM facet.appearance s
        JOIN facet.analysis a USING (analysis_id)
        CROSS JOIN LATERAL (SELECT greatest({MAX_SECONDS_OFF}, a.sample_interval_seconds) AS seconds) w
        JOIN facet.face_embedding e USING (appearance_id)
        JOIN facet.face f USING (face_id)
        CROSS JOIN LATERAL (
            SELECT greatest(0, least(f.x2, k.x2) - greatest(f.x1, k.x1))
                   * greatest(0, least(f.y2, k.y2) - greatest(f.y1, k.y1)) AS shared
        ) o
        CROSS JOIN LATERAL (
            SELECT o.shared / nullif((f.x2 - f.x1) * (f.y2 - f.y1) + (k.x2 - k.x1) * (k.y2 - k.y1) - o.shared, 0)
                   AS overlap
        ) b
        WHERE known.appearance_id IS NULL
          AND s.media_id = k.media_id AND s.trunk_id = %(trunk_id)s AND s.embedding IS NOT NULL AND a.is_current
          AND s.start_seconds <= k.at_seconds + w.seconds AND s.end_seconds >= k.at_seconds - w.seconds
          AND f.at_seconds BETWEEN k.at_seconds - w.seconds AND k.at_seconds + w.seconds
          AND b.overlap >= {MIN_ANCHOR_OVERLAP}
        ORDER BY abs(f.at_seconds - k.at_seconds), b.overlap DESC, f.face_id
        LIMIT 1
    ) found ON true
    WHERE {{which}}
    ORDER BY k.correction_id, k.anchor_no"""  # noqa: S608 - constants
_ACTIVE = "c.undone_at IS NULL"
_ONE = "c.correction_id = %(correction_id)s"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Moves(ArrayColumns):
    """Effects of a correction on the appearances of its anchors."""

    appearance: Ids
    """(A,) appearance found at the anchor."""
    side: Ids
    """(A,) 0 for the subject of the correction, 1 for the rest."""
    before: Ids
    """(A,) person that the appearance had before the correction."""
    after: Ids
    """(A,) person that the correction gave it."""

    def __post_init__(self) -> None:
        self._check()


def write_anchors(session: Session, correction_id: int, subject: Ids, rest: Ids) -> None:
    """Anchor a correction to the appearances that it concerns, each with the person that it has now."""
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
    """Return whether any active correction has an anchor in any of some files."""
    statement = text("""SELECT EXISTS (SELECT FROM correction_anchor JOIN correction USING (correction_id)
                        WHERE undone_at IS NULL AND media_id = ANY(:media))""")
    return bool(session.execute(statement, {"media": np.unique(media).tolist()}).scalar_one())


def read_corrections(session: Session, trunk_id: int) -> list[ResolvedCorrection]:
    """Read the active corrections in order of time, their anchors resolved to appearances of a trunk."""
    found = read_rows(session, _RESOLVE.format(which=_ACTIVE), _RESOLVED, {"trunk_id": trunk_id})
    active = session.execute(
        text("SELECT correction_id, kind, name FROM correction WHERE undone_at IS NULL ORDER BY correction_id")
    ).all()
    ids = [row.correction_id for row in active]
    starts = np.searchsorted(found["correction_id"], ids)
    ends = np.searchsorted(found["correction_id"], ids, side="right")
    corrections = []
    for row, start, end in zip(active, starts, ends, strict=True):
        subject, rest = _sides(found[start:end])
        lost = int((found["appearance_id"][start:end] < 0).sum())
        corrections.append(ResolvedCorrection(row.correction_id, row.kind, subject, rest, row.name, lost))
    return corrections


def _sides(anchors: NDArray[np.void]) -> tuple[Ids, Ids]:
    """Split resolved anchors into subject and rest; an appearance found on both sides is on neither."""
    here = anchors["appearance_id"] >= 0
    first = np.unique(anchors["appearance_id"][here & (anchors["side"] == 0)])
    second = np.unique(anchors["appearance_id"][here & (anchors["side"] == 1)])
    both = np.intersect1d(first, second)
    return np.setdiff1d(first, both), np.setdiff1d(second, both)


def read_moves(session: Session, trunk_id: int, correction_id: int) -> Moves:
    """Read the effects of one correction, for the anchors where an appearance of a trunk is found."""
    bounds = {"trunk_id": trunk_id, "correction_id": correction_id}
    found = read_rows(session, _RESOLVE.format(which=_ONE), _RESOLVED, bounds)
    found = found[found["appearance_id"] >= 0]
    return Moves(
        appearance=found["appearance_id"],
        side=found["side"],
        before=found["from_person_id"],
        after=found["to_person_id"],
    )
