"""Changes of one head's answers between two releases: counts, a table of labels, shifts of values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds

VALUE_STEP = 1.0  # a numeric answer counts as changed from this shift on: years

# Of every pair and one task: both answers. A face that the new release does not know has none after it.
ANSWERS = f"""
    SELECT p.*, b.face_id IS NOT NULL AS had, a.face_id IS NOT NULL AS has, b.label AS label_before,
           a.label AS label_after, a.value - b.value AS shift, b.value AS value_before, a.value AS value_after,
           b.confidence AS confidence_before, a.confidence AS confidence_after,
           p.before_id IS NOT NULL AND p.after_id IS NOT NULL AND a.face_id IS NULL
               AND (b.face_id IS NOT NULL OR cast(:before AS smallint) IS NULL) AS lacks,
           coalesce(b.label IS DISTINCT FROM a.label OR abs(a.value - b.value) >= {VALUE_STEP}, false) AS differs
    FROM face_pair AS p
    LEFT JOIN facet.prediction AS b ON b.face_id = p.before_id AND b.reading_id = :before
    LEFT JOIN facet.prediction AS a ON a.face_id = p.after_id AND a.reading_id = :after"""  # noqa: S608 - a constant
_COUNTS = text(f"""
    SELECT count(*) FILTER (WHERE had AND has AND NOT differs) AS unchanged,
           count(*) FILTER (WHERE had AND has AND differs) AS changed,
           count(*) FILTER (WHERE NOT had AND has) AS new,
           count(*) FILTER (WHERE had AND after_id IS NULL) AS vanished,
           count(*) FILTER (WHERE lacks) AS missing,
           count(*) FILTER (WHERE shift IS NOT NULL) AS values, avg(shift) AS mean, stddev_samp(shift) AS deviation,
           percentile_cont(ARRAY[0.05, 0.5, 0.95]) WITHIN GROUP (ORDER BY shift) AS quantiles
    FROM ({ANSWERS}) AS answer""")  # noqa: S608 - the constant above
_TABLE = text(f"""
    SELECT label_before, label_after, count(*) AS faces FROM ({ANSWERS}) AS answer
    WHERE had AND has AND label_before IS NOT NULL AND label_after IS NOT NULL
    GROUP BY label_before, label_after ORDER BY label_before, label_after""")  # noqa: S608


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueShift:
    """Shift of a numeric answer, new minus old, over N faces."""

    faces: int
    mean: float
    deviation: float
    """Standard deviation; 0 for a single face."""
    quantiles: tuple[float, float, float]
    """5 %, 50 % and 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPair:
    """Faces with one label before and one after."""

    before: str
    after: str
    faces: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadChanges:
    """Answers of one head under both releases."""

    head: str
    is_shared: bool
    """Both releases have the same reading, so that their rows are the same."""
    unchanged: int
    changed: int
    new: int
    """The new release alone has an answer."""
    vanished: int
    """The face is not found any more."""
    missing: int
    """The new release has the face and not the answer, though the old one has it or does not know the head."""
    shift: ValueShift | None
    """Of a numeric head."""
    table: tuple[LabelPair, ...]
    """Old label by new label; empty for a numeric head, and for attributes."""


def head_changes(session: Session, head: str, before: ReleaseIds, after: ReleaseIds) -> HeadChanges:
    """Compare one head over the pairs of ``make_pairs``; a head that a release lacks has no answers there."""
    readings = {"before": before.readings.get(head), "after": after.readings.get(head)}
    counts = session.execute(_COUNTS, readings).one()
    table = session.execute(_TABLE, readings).all()
    return HeadChanges(
        head=head,
        is_shared=readings["before"] is not None and readings["before"] == readings["after"],
        unchanged=counts.unchanged,
        changed=counts.changed,
        new=counts.new,
        vanished=counts.vanished,
        missing=counts.missing,
        shift=None
        if not counts.values
        else ValueShift(
            faces=counts.values,
            mean=float(counts.mean),
            deviation=float(counts.deviation or 0),
            quantiles=(float(counts.quantiles[0]), float(counts.quantiles[1]), float(counts.quantiles[2])),
        ),
        table=tuple(LabelPair(before=row.label_before, after=row.label_after, faces=row.faces) for row in table),
    )
