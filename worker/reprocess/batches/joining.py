"""Batches of analyses under a new trunk: their faces are joined to appearances, as the finish stage does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.analysis.store.finish import build_appearances
from worker.reprocess.batches.rows import end_batch, retry_races
from worker.reprocess.lacking import GAP_FACE
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.batches import Batch
    from worker.reprocess.batches.faces import Stopwatch
    from worker.reprocess.target import Target

# A face without a source is joined like a dropped one. An analysis that another transaction joins, changes or erases is
# left to the next planning.
_ANALYSES = text(f"""
    SELECT a.analysis_id FROM analysis AS a
    WHERE a.analysis_id BETWEEN :first AND :last AND a.finder_id = :finder AND a.is_current
      AND (cast(:ids AS bigint[]) IS NULL OR a.analysis_id = ANY (cast(:ids AS bigint[])))
      AND EXISTS (SELECT FROM face AS f JOIN face_embedding AS e USING (face_id)
                  WHERE f.analysis_id = a.analysis_id AND e.trunk_id = :trunk)
      AND NOT EXISTS (SELECT FROM appearance AS p WHERE p.analysis_id = a.analysis_id AND p.trunk_id = :trunk)
      AND NOT EXISTS (
          SELECT FROM face AS f
          WHERE f.analysis_id = a.analysis_id AND f.dropped_reason IS NULL AND NOT EXISTS (
              SELECT FROM face_embedding AS e
              WHERE e.face_id = f.face_id AND e.trunk_id = :trunk AND e.embedding IS NOT NULL)
            AND NOT {GAP_FACE.format(face="f")})
    ORDER BY a.analysis_id FOR KEY SHARE OF a SKIP LOCKED""")  # noqa: S608 - a constant


def join_files(sessions: sessionmaker[Session], batch: Batch, target: Target, watch: Stopwatch) -> int:
    """Join the faces of each analysis of a batch, and end the batch; return how many analyses were joined.

    Raises:
        LeaseLostError: another worker holds or ended the batch; nothing is written.
    """
    key = {
        "first": batch.first_id,
        "last": batch.last_id,
        "ids": None if batch.ids is None else list(batch.ids),
        "finder": target.ids.finder_id,
        "trunk": target.ids.trunk_id,
        "job_id": batch.job_id,
    }
    ids = replace(target.ids, readings={task: head.reading_id for task, head in target.heads.items()})

    def store(session: Session) -> int:
        found = session.scalars(_ANALYSES, key).all()
        with watch.time("compute"):
            for analysis_id in found:
                build_appearances(session, analysis_id, ids, target.specs)
        end_batch(session, batch, watch.seconds)
        return len(found)

    return retry_races(lambda: run_transaction(sessions, "reprocess", store))
