"""The faces whose answers moved most between two releases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.releases.diff.changes import ANSWERS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds

# Of labels, those that both releases were surest of; of values, those that shifted most.
_MOVERS = text(f"""
    WITH moved AS (
        SELECT *, coalesce(abs(shift), confidence_before * confidence_after) AS size FROM ({ANSWERS}) AS answer
        WHERE had AND has AND differs
        ORDER BY size DESC NULLS LAST, before_id LIMIT :limit)
    SELECT v.before_id, v.after_id, v.media_id, m.uri, f.at_seconds, v.label_before, v.label_after, v.value_before,
           v.value_after, v.confidence_before, v.confidence_after, s.uri AS crop_uri, f.crop_index
    FROM moved AS v
    JOIN facet.face AS f ON f.face_id = v.after_id
    JOIN facet.media_file AS m ON m.media_id = v.media_id
    LEFT JOIN facet.crop_strip AS s ON s.unit_id = f.unit_id AND s.strip_no = f.strip_no
    ORDER BY v.size DESC NULLS LAST, v.before_id""")  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """A face whose answer changed."""

    head: str
    face_id: int
    """Under the new release; the same under the old one where both have one finder."""
    media_id: int
    uri: str
    at_seconds: float
    before: str
    """The old answer with its confidence, such as 'male 0.98' or '34.0'."""
    after: str
    crop_uri: str | None
    """Of its strip in the crop store; None where it is gone."""
    crop_index: int | None


def biggest_movers(session: Session, head: str, before: ReleaseIds, after: ReleaseIds, limit: int = 40) -> list[Mover]:
    """Return the pairs of ``make_pairs`` whose answers moved most, the biggest first."""
    readings = {"before": before.readings.get(head), "after": after.readings.get(head), "limit": limit}
    return [
        Mover(
            head=head,
            face_id=row.after_id,
            media_id=row.media_id,
            uri=row.uri,
            at_seconds=row.at_seconds,
            before=_answer(row.label_before, row.value_before, row.confidence_before),
            after=_answer(row.label_after, row.value_after, row.confidence_after),
            crop_uri=row.crop_uri,
            crop_index=row.crop_index,
        )
        for row in session.execute(_MOVERS, readings)
    ]


def _answer(label: str | None, value: float | None, confidence: float | None) -> str:
    if label is None:
        return "none" if value is None else f"{value:.1f}"
    return label if confidence is None else f"{label} {confidence:.2f}"
