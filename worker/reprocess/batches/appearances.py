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
from worker.reprocess.lacking import GAP_FACE
from worker.reprocess.target import read_target
from worker.storage.transactions import run_transaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
# A face without a source is left out of its appearance.
_LACKING = text(f"""
    SELECT p.appearance_id FROM appearance AS p
    WHERE p.appearance_id BETWEEN :first AND :last AND p.trunk_id = :trunk
      AND (cast(:ids AS bigint[]) IS NULL OR p.appearance_id = ANY (cast(:ids AS bigint[])))
      AND NOT EXISTS (SELECT FROM appearance_prediction AS x
                      WHERE x.appearance_id = p.appearance_id AND x.reading_id = :reading)
      AND NOT EXISTS (
          SELECT FROM face_embedding AS e
          WHERE e.appearance_id = p.appearance_id AND e.trunk_id = :trunk AND e.embedding IS NOT NULL
            AND NOT EXISTS (SELECT FROM prediction AS q WHERE q.face_id = e.face_id AND q.reading_id = :reading)
            AND (:has_source OR NOT {GAP_FACE.format(face="e")} OR EXISTS (
                SELECT FROM prediction AS o
                WHERE o.face_id = e.face_id AND o.reading_id = ANY(:others) AND o.scores IS NOT NULL)))""")  # noqa: S608 - a constant
# The transaction may hold people, so it does not wait for an analysis that is being erased.
_KEEP = text("""
    SELECT p.appearance_id FROM appearance AS p JOIN analysis AS a USING (analysis_id)
    WHERE p.appearance_id = ANY(:ids) ORDER BY a.analysis_id FOR KEY SHARE OF a SKIP LOCKED""")
_FORGET = text("DELETE FROM appearance_prediction WHERE appearance_id = ANY(:ids) RETURNING appearance_id, reading_id")
_RELEASES = text("""
    SELECT release_id, trunk_id FROM release
    WHERE retired_at IS NULL AND manifest -> 'service' IS NULL
      AND trunk_id IN (SELECT trunk_id FROM appearance WHERE appearance_id = ANY(:ids))
    ORDER BY release_id""")
_TIMES = text("""
    UPDATE appearance SET start_seconds = :start, end_seconds = :end, screen_seconds = :screen
    WHERE appearance_id = :id""")


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
            head, reading = target.heads[task], target.heads[task].reading_id
            key = {"job_id": batch.job_id, "has_source": head.reads_embedding, "others": list(head.others)}
            key |= {"reading": reading}
            lacking = session.scalars(_LACKING, _range(batch, target) | key).all()
            given = [(one, summed[one]) for one in lacking if one in summed and one in kept]
            written += insert_predictions(session, {task: reading}, given)
        count_people(session)
        return written

    return retry_races(lambda: run_transaction(sessions, "reprocess", store))


def answer_again(session: Session, appearances: Sequence[int]) -> None:
    """Aggregate appearances that lost some of their faces again: their times, and the answers that they had.

    Args:
        session: an open session, whose transaction deleted the faces and holds the lock of people.
        appearances: their numbers, under any trunks.
    """
    ids = {"ids": list(appearances)}
    had = {(int(row.reading_id), int(row.appearance_id)) for row in session.execute(_FORGET, ids)}
    for release in session.execute(_RELEASES, ids).all():
        target = read_target(session, release.release_id)
        key: dict[str, object] = {"first": min(appearances), "last": max(appearances), "trunk": release.trunk_id}
        faces = read_rows(session, _FACES, _FACE_TYPES, key | ids)
        heads = {task: _read_head(session, faces, target, task) for task in HEADS if task in target.heads}
        summed = _sum(faces, heads, target)
        times = [
            {"id": one.number, "start": one.start_seconds, "end": one.end_seconds, "screen": one.screen_seconds}
            for one in summed.values()
        ]
        session.execute(_TIMES, times)
        for task in heads:
            reading = target.heads[task].reading_id
            given = [(number, one) for number, one in summed.items() if (reading, number) in had]
            insert_predictions(session, {task: reading}, given)
            had -= {(reading, number) for number, _ in given}  # a reading that another release has, too


def _read_head(session: Session, faces: NDArray[Any], target: Target, task: str) -> HeadRows:
    head = target.heads[task]
    key = {"faces": faces["face_id"][faces["kept"]].tolist(), "reading": head.reading_id}
    read = read_numbers if task == "age" else read_labels
    return read(session, faces["face_id"], key, target.specs[task])


def _sum(faces: NDArray[Any], heads: Mapping[str, HeadRows], target: Target) -> dict[int, Appearance]:
    sums = AppearanceSums({task: target.specs[task].threshold for task in heads})
    count = len(faces)
    steps, screen, pause = np.ones(count), np.zeros(count), np.zeros(count)
    for step in np.unique(faces["step_seconds"]):
        same = np.isnan(faces["step_seconds"]) if np.isnan(step) else faces["step_seconds"] == step
        holds = Holds.of(faces["hold_seconds"][same], None if np.isnan(step) else float(step))
        steps[same], screen[same], pause[same] = holds.steps, holds.screen_seconds, holds.pause_seconds
    seen = AppearanceFaces(
        appearance=faces["appearance_id"].copy(),
        at_seconds=faces["at_seconds"].copy(),
        quality=faces["quality"].copy(),
        kept=faces["kept"].copy(),
        embeddings=np.zeros((count, EMBEDDING_DIMENSION), np.float32),  # answers of heads alone are asked for
        screen_seconds=screen,
        pause_seconds=pause,
        steps=steps,
    )
    sums.add(seen, heads)
    return {one.number: one for one in sums.close(sums.open)}


def _range(batch: Batch, target: Target) -> dict[str, object]:
    ids = None if batch.ids is None else list(batch.ids)
    return {"first": batch.first_id, "last": batch.last_id, "ids": ids, "trunk": target.ids.trunk_id}
