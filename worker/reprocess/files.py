"""Files for a new finder: ordinary analyses under the release, as a submission would write them.

Ranges are those of the analysis that exists, so that no file is opened to plan it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.ledger.submission.submit import lock_submissions
from worker.reprocess.lacking import SEALED

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.reprocess.lacking import Lacking
    from worker.reprocess.request import ReprocessRequest
    from worker.reprocess.target import Target

_TEMPORARY = "CREATE TEMPORARY TABLE lacking_media ON COMMIT DROP AS {query}"
_GAPS = text(f"""
    INSERT INTO reprocess_gap (job_id, analysis_id, reason, face_count)
    SELECT :job_id, analysis_id, '{SEALED}: a person in this file was erased, so it is not analysed again', 1
    FROM lacking_media WHERE is_sealed""")  # noqa: S608 - a constant
_ANALYSES = text("""
    CREATE TEMPORARY TABLE new_analysis ON COMMIT DROP AS
    WITH added AS (
        INSERT INTO analysis (media_id, finder_id, sampling, sample_interval_seconds)
        SELECT l.media_id, :finder_id, a.sampling, a.sample_interval_seconds
        FROM lacking_media AS l JOIN analysis AS a USING (analysis_id) WHERE NOT l.is_sealed
        ORDER BY l.media_id RETURNING analysis_id, media_id)
    SELECT added.analysis_id, media_id, l.analysis_id AS old_id, l.uri
    FROM added JOIN lacking_media AS l USING (media_id)""")
_UNITS = text("""
    INSERT INTO unit (analysis_id, release_id, ordinal, start_seconds, end_seconds, priority, turn)
    SELECT n.analysis_id, :release_id, u.ordinal, u.start_seconds, u.end_seconds, :priority,
           :turn + sum(greatest(u.frame_count, 1)) OVER (ORDER BY n.analysis_id, u.ordinal)
    FROM new_analysis AS n JOIN unit AS u ON u.analysis_id = n.old_id AND u.stage = 'analyse'""")
_ITEMS = text("""
    INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id)
    SELECT :job_id, (SELECT coalesce(max(item_no), 0) FROM job_item WHERE job_id = :job_id)
                    + row_number() OVER (ORDER BY analysis_id), uri, media_id, analysis_id
    FROM new_analysis""")
_CLOCK = text("""
    SELECT turn FROM unit
    WHERE state = 'pending' AND attempts = 0 AND stage = 'analyse' AND NOT shelved AND release_id = :release_id
      AND priority = :priority
    ORDER BY turn LIMIT 1""")


def plan_files(session: Session, lacking: Lacking, target: Target, request: ReprocessRequest) -> int:
    """Write an analysis for each file that the finder has not seen; return their number."""
    query, values = lacking.media_query()
    if not session.execute(text(f"SELECT EXISTS ({query})"), values).scalar_one():
        return 0
    lock_submissions(session)  # otherwise a submission may write an analysis of the same file meanwhile
    session.execute(text(_TEMPORARY.format(query=query)), values)
    key = {"finder_id": target.ids.finder_id, "release_id": target.ids.release_id, "priority": request.priority}
    session.execute(_GAPS, {"job_id": values["job_id"]})
    session.execute(_ANALYSES, key)
    turn = session.execute(_CLOCK, key).scalar() or 0
    session.execute(_UNITS, key | {"turn": turn})
    session.execute(_ITEMS, {"job_id": values["job_id"]})
    return int(session.execute(text("SELECT count(*) FROM new_analysis")).scalar_one())
