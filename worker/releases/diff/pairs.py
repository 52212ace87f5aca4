"""Pairs of faces: the same face under two releases. Everything else in a comparison reads them.

Two releases with one finder have the same faces, so a pair is one ``face_id``. With two finders a pair is two faces of
one file in one frame, each of which overlaps the other most, by at least half (intersection over union). Only files
that both finders have analysed are compared; the others are counted as not covered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.ledger.releases import ReleaseIds

MIN_PAIR_OVERLAP = 0.5  # of the boxes of one face under two finders, as intersection over union
AGE_BANDS = (0, 3, 10, 20, 30, 40, 50, 60, 70)  # first years
QUALITY_BANDS = (0.0, 0.25, 0.5, 0.75)

# Kept faces of a finder, those of the current analysis of each file.
_KEPT = """
    SELECT f.face_id, a.media_id, f.frame_index, f.x1, f.y1, f.x2, f.y2, f.quality
    FROM facet.face AS f JOIN facet.analysis AS a USING (analysis_id)
    WHERE a.finder_id = :{finder} AND a.is_current AND f.dropped_reason IS NULL"""
_SAME = (
    f"SELECT face_id AS before_id, face_id AS after_id, media_id, quality FROM ({_KEPT.format(finder='before')}) AS k"  # noqa: S608
)
# Best partners in both directions: a face that two others overlap belongs to the one that it overlaps most.
_MATCHED = f"""
    WITH old AS MATERIALIZED ({_KEPT.format(finder="before")}), new AS MATERIALIZED ({_KEPT.format(finder="after")}),
    both_media AS (SELECT media_id FROM facet.analysis WHERE finder_id = :before AND is_current
                   INTERSECT SELECT media_id FROM facet.analysis WHERE finder_id = :after AND is_current),
    candidate AS (
        SELECT o.face_id AS before_id, n.face_id AS after_id, shared.area / nullif(
                   (o.x2 - o.x1) * (o.y2 - o.y1) + (n.x2 - n.x1) * (n.y2 - n.y1) - shared.area, 0) AS overlap
        FROM old AS o JOIN new AS n USING (media_id, frame_index)
        CROSS JOIN LATERAL (SELECT greatest(least(o.x2, n.x2) - greatest(o.x1, n.x1), 0)
                                 * greatest(least(o.y2, n.y2) - greatest(o.y1, n.y1), 0) AS area) AS shared),
    ranked AS (
        SELECT before_id, after_id,
               row_number() OVER (PARTITION BY before_id ORDER BY overlap DESC, after_id) AS of_old,
               row_number() OVER (PARTITION BY after_id ORDER BY overlap DESC, before_id) AS of_new
        FROM candidate WHERE overlap >= :overlap),
    matched AS (SELECT before_id, after_id FROM ranked WHERE of_old = 1 AND of_new = 1)
    SELECT o.face_id AS before_id, m.after_id, o.media_id, o.quality
    FROM old AS o JOIN both_media USING (media_id) LEFT JOIN matched AS m ON m.before_id = o.face_id
    UNION ALL
    SELECT NULL, n.face_id, n.media_id, n.quality
    FROM new AS n JOIN both_media USING (media_id)
    WHERE n.face_id NOT IN (SELECT after_id FROM matched)"""  # noqa: S608 - the constants above
_BANDED = """
    CREATE TEMPORARY TABLE face_pair ON COMMIT DROP AS
    SELECT p.before_id, p.after_id, p.media_id,
           coalesce(gender.label, 'none') AS gender, coalesce(ethnicity.label, 'none') AS ethnicity,
           coalesce(width_bucket(age.value, cast(:ages AS real[])), 0) AS age_band,
           width_bucket(p.quality, cast(:qualities AS real[])) AS quality_band
    FROM ({pairs}) AS p
    LEFT JOIN facet.prediction AS gender ON gender.face_id = p.before_id AND gender.reading_id = :gender
    LEFT JOIN facet.prediction AS ethnicity ON ethnicity.face_id = p.before_id AND ethnicity.reading_id = :ethnicity
    LEFT JOIN facet.prediction AS age ON age.face_id = p.before_id AND age.reading_id = :age"""
_COUNTS = text("""
    SELECT count(before_id) AS before, count(*) FILTER (WHERE before_id IS NOT NULL AND after_id IS NOT NULL) AS paired,
           count(*) FILTER (WHERE after_id IS NULL) AS vanished, count(*) FILTER (WHERE before_id IS NULL) AS new
    FROM face_pair""")
_ALL = text("""
    SELECT count(*) FROM facet.face AS f JOIN facet.analysis AS a USING (analysis_id)
    WHERE a.finder_id = :finder AND a.is_current AND f.dropped_reason IS NULL""")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceCounts:
    """Kept faces of two releases."""

    before: int
    """Under the old release, in all files."""
    compared: int
    """Of these, those in files that the finder of the new release has analysed, too."""
    paired: int
    """Found by both."""
    vanished: int
    """Compared and found by the old one alone."""
    new: int
    """Found by the new one alone, in files that both have analysed."""


def make_pairs(session: Session, before: ReleaseIds, after: ReleaseIds) -> FaceCounts:
    """Create the temporary table ``face_pair`` of this transaction, and return how many pairs it holds.

    Its columns are before_id, after_id (null where the other release has no such face), media_id, and the groups of the
    face under the old release: gender, ethnicity ('none' where it has none), age_band and quality_band, which count
    from 1 in AGE_BANDS and QUALITY_BANDS; an age_band of 0 is a face without an age.

    Args:
        session: a transaction that may create temporary tables.
        before: the old release.
        after: the new release.
    """
    same = before.finder_id == after.finder_id
    parameters: dict[str, object] = {
        "before": before.finder_id,
        "ages": list(AGE_BANDS),
        "qualities": list(QUALITY_BANDS),
    }
    parameters |= {task: before.readings.get(task) for task in ("gender", "ethnicity", "age")}
    if not same:
        parameters |= {"after": after.finder_id, "overlap": MIN_PAIR_OVERLAP}
    session.execute(text("DROP TABLE IF EXISTS pg_temp.face_pair"))
    session.execute(text(_BANDED.format(pairs=_SAME if same else _MATCHED)), parameters)
    session.execute(text("ANALYZE face_pair"))
    found = session.execute(_COUNTS).one()
    whole = found.before if same else int(session.execute(_ALL, {"finder": before.finder_id}).scalar_one())
    return FaceCounts(before=whole, compared=found.before, paired=found.paired, vanished=found.vanished, new=found.new)
