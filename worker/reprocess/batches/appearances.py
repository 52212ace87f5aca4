"""Batches of appearances: the answers of heads, aggregated over faces as the finish stage of an analysis does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from db.base import EMBEDDING_DIMENSION
from db.bulk.arrays import read_rows
from db.schema.totals import count_people
from worker.analysis.store.appearance_rows import insert_predictions
from worker.analysis.store.face_blocks import HEADS, read_labels, read_numbers
from worker.analysis.tracking.appearances import AppearanceFaces, AppearanceSums
from worker.analysis.tracking.holds import Holds
from worker.identity.gallery import lock_people
from worker.reprocess.batches.rows import end_batch, retry_races
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session, sessionmaker

    from db.bulk.arrays import AnyType
    from worker.analysis.tracking.appearances import Appearance
    from worker.ledger.batches import Batch
    from worker.reprocess.batches.faces import Stopwatch
    from worker.reprocess.target import Target
    from worker.types import HeadRows

# In the order of an analysis, so that sums come out as they do there.
_FACES = """
    SELECT e.appearance_id, f.face_id, f.at_seconds, f.quality, coalesce(f.hold_seconds::double precision, 'NaN'),
           coalesce(a.sample_interval_seconds, 'NaN'), e.embedding IS NOT NULL
    FROM facet.appearance AS p
    JOIN facet.analysis AS a USING (analysis_id)
    JOIN facet.face_embedding AS e ON e.appearance_id = p.appearance_id AND e.trunk_id = p.trunk_id
    JOIN facet.face AS f ON f.face_id = e.face_id
    WHERE p.appearance_id BETWEEN %(first)s AND %(last)s AND p.trunk_id = %(trunk)s
      AND (%(ids)s::bigint[] IS NULL OR p.appearance_id = ANY (%(ids)s::bigint[]))
    ORDER BY p.analysis_id, f.frame_index, f.face_no"""
_FACE_TYPES: Mapping[str, AnyType] = {
    "appearance_id": "bigint", "face_id": "bigint", "at_seconds": "double precision", "quality": "real",
    "hold_seconds": "double precision", "step_seconds": "double precision", "kept": "boolean",
}  # fmt: skip
_LACKING = text("""
    SELECT p.appearance_id FROM appearance AS p
    WHERE p.appearance_id BETWEEN :first AND :last AND p.trunk_id = :trunk
      AND (cast(:ids AS bigint[]) IS NULL OR p.appearance_id = ANY (cast(:ids AS bigint[])))
      AND NOT EXISTS (SELECT FROM appearance_prediction AS x
                      WHERE x.appearance_id = p.appearance_id AND x.reading_id = :reading)
      AND NOT EXISTS (
          SELECT FROM face_embedding AS e
          WHERE e.appearance_id = p.appearance_id AND e.trunk_id = :trunk AND e.embedding IS NOT NULL
            AND NOT EXISTS (SELECT FROM prediction AS q WHERE q.face_id = e.face_id AND q.reading_id = :reading))""")
# The transaction may hold people, so it does not wait for an analysis that is being erased.
_KEEP = text("""
    SELECT p.appearance_id FROM appearance AS p JOIN analysis AS a USING (analysis_id)
    WHERE p.appearance_id = ANY(:ids) ORDER BY a.analysis_id FOR KEY SHARE OF a SKIP LOCKED""")


def fill_in(sessions: sessionmaker[Session], batch: Batch, target: Target, watch: Stopwatch) -> int:
    """Aggregate and store the answers that appearances lack, and end the batch; return how many rows were written.

    Raises:
        LeaseLostError: another worker holds or ended the batch; nothing is written.
    """
    with sessions() as session, watch.time("read"):
        faces = read_rows(session, _FACES, _FACE_TYPES, _range(batch, target))
        tasks = [task for task in HEADS if task in batch.tasks]
        heads = {task: _read_head(session, faces, target, task) for task in tasks}
    with watch.time("compute"):
        summed = _sum(faces, heads, target)

    def store(session: Session) -> int:
        lock_people(session)  # totals of people are counted below; first in the order of locks
        kept = set(session.scalars(_KEEP, {"ids": list(summed)}))
        end_batch(session, batch, watch.seconds)
        written = 0
        for task in heads:
            reading = target.heads[task].reading_id
            lacking = session.scalars(_LACKING, _range(batch, target) | {"reading": reading}).all()
            given = [(one, summed[one]) for one in lacking if one in summed and one in kept]
            written += insert_predictions(session, {task: reading}, given)
        count_people(session)
        return written

    return retry_races(lambda: run_transaction(sessions, "reprocess", store))


def _read_head(session: Session, faces: NDArray[Any], target: Target, task: str) -> HeadRows:
    head = target.heads[task]
    key = {"faces": faces["face_id"][faces["kept"]].tolist(), "reading": head.reading_id}
    read = read_numbers if task == "age" else read_labels
    return read(session, faces["face_id"], key, target.specs[task])


def _sum(faces: NDArray[Any], heads: Mapping[str, HeadRows], target: Target) -> dict[int, Appearance]:
    sums = AppearanceSums({task: target.specs[task].threshold for task in heads})
    count = len(faces)
    steps = np.ones(count)
    for step in np.unique(faces["step_seconds"]):
        same = np.isnan(faces["step_seconds"]) if np.isnan(step) else faces["step_seconds"] == step
        holds = Holds.of(faces["hold_seconds"][same], None if np.isnan(step) else float(step))
        steps[same] = holds.steps
    seen = AppearanceFaces(
        appearance=faces["appearance_id"].copy(),
        at_seconds=faces["at_seconds"].copy(),
        quality=faces["quality"].copy(),
        kept=faces["kept"].copy(),
        embeddings=np.zeros((count, EMBEDDING_DIMENSION), np.float32),  # answers of heads alone are asked for
        screen_seconds=np.zeros(count),
        pause_seconds=np.zeros(count),
        steps=steps,
    )
    sums.add(seen, heads)
    return {one.number: one for one in sums.close(sums.open)}


def _range(batch: Batch, target: Target) -> dict[str, object]:
    ids = None if batch.ids is None else list(batch.ids)
    return {"first": batch.first_id, "last": batch.last_id, "ids": ids, "trunk": target.ids.trunk_id}
