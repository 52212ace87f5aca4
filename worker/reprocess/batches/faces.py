"""Batches of faces: their rows from stored scores, from stored embeddings, or from crops."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from db.bulk.arrays import Codes, read_rows
from models.readings import reread
from worker.reprocess.batches.crops import read_crops
from worker.reprocess.batches.rows import (
    BatchRows,
    HeadBlock,
    head_rows,
    read_faces,
    without,
    without_embedding,
)
from worker.reprocess.target import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session, sessionmaker

    from models.multi_task import EmbeddingHeads, MultiTaskModel
    from models.types import FaceOutputs, HeadOutput
    from worker.ledger.batches import Batch
    from worker.reprocess.target import HeadTarget, Target
    from worker.storage.crops import CropStore

    Ints = NDArray[np.int64]

_SCORES = """
    SELECT DISTINCT ON (face_id) face_id, scores FROM facet.prediction
    WHERE face_id BETWEEN %(first)s AND %(last)s AND reading_id = ANY(%(readings)s::smallint[]) AND scores IS NOT NULL
    ORDER BY face_id, reading_id"""
_EMBEDDINGS = """
    SELECT face_id, embedding FROM facet.face_embedding
    WHERE face_id BETWEEN %(first)s AND %(last)s AND trunk_id = %(trunk)s AND embedding IS NOT NULL ORDER BY face_id"""


class Stopwatch:
    """Sums the time of each stage of a batch."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count the time of a block of code."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


def from_scores(sessions: sessionmaker[Session], batch: Batch, target: Target, watch: Stopwatch) -> BatchRows:
    """Read stored scores again, under the release's temperature, thresholds and abstention."""
    heads = {}
    with sessions() as session:
        with watch.time("read"):
            faces = read_faces(session, batch, target)
        for task in batch.tasks:
            head = target.heads[task]
            with watch.time("read"):
                lacking = without(session, batch, faces["face_id"], head.reading_id)
                found = _scores_of(session, batch, head)
            with watch.time("compute"):
                rows = found[np.isin(found["face_id"], lacking)]
                output = reread(head.branch, torch.from_numpy(rows["scores"].astype(np.int32)))
                heads[task] = HeadBlock(head.reading_id, rows["face_id"].copy(), head_rows(output), with_scores=False)
    return BatchRows(faces["analysis_id"], heads)


def from_embeddings(
    sessions: sessionmaker[Session], batch: Batch, target: Target, model: EmbeddingHeads, watch: Stopwatch
) -> BatchRows:
    """Run branches over stored embeddings."""
    with sessions() as session, watch.time("read"):
        faces = read_faces(session, batch, target)
        lacking = {
            task: without(session, batch, faces["face_id"], target.heads[task].reading_id) for task in batch.tasks
        }
        key = {"first": batch.first_id, "last": batch.last_id, "trunk": target.ids.trunk_id}
        found = read_rows(session, _EMBEDDINGS, {"face_id": "bigint", "embedding": "halfvec"}, key)
    with watch.time("compute"):
        wanted = _union(list(lacking.values()))
        rows = found[np.isin(found["face_id"], wanted)]
        outputs = model.infer(torch.from_numpy(np.ascontiguousarray(rows["embedding"])))
        ids = rows["face_id"].copy()
        heads = {task: _block(target.heads[task], ids, outputs[task], lacking[task]) for task in batch.tasks}
    return BatchRows(faces["analysis_id"], heads)


def from_crops(
    sessions: sessionmaker[Session],
    batch: Batch,
    target: Target,
    model: MultiTaskModel,
    store: CropStore,
    watch: Stopwatch,
) -> BatchRows:
    """Run the model over crops, which a thread reads ahead; faces whose crop turns out to be gone are left out."""
    tasks = [task for task in batch.tasks if task != IDENTITY]
    with sessions() as session, watch.time("read"):
        faces = read_faces(session, batch, target)
        ids = faces["face_id"]
        lacking = {task: without(session, batch, ids, target.heads[task].reading_id) for task in tasks}
        if IDENTITY in batch.tasks:
            lacking[IDENTITY] = without_embedding(session, batch, ids, target.ids.trunk_id)
    wanted = faces[np.isin(ids, _union(list(lacking.values())))]
    numbers, outputs = [], []
    for chunk in read_crops(sessions, store, wanted, model.layout.side, watch):
        with watch.time("compute"):
            outputs.append(model.infer(torch.from_numpy(chunk.crops).permute(0, 3, 1, 2)))
        numbers.append(chunk.face_ids)
    return _gather(np.concatenate([np.zeros(0, np.int64), *numbers]), outputs, lacking, target, faces["analysis_id"])


def _gather(
    ids: Ints, outputs: list[FaceOutputs], lacking: dict[str, Ints], target: Target, analyses: Ints
) -> BatchRows:
    """Return the rows of N faces that the model saw in several parts."""
    if not len(ids):
        return BatchRows(analyses)
    order = np.argsort(ids)
    ids = ids[order]
    heads = {}
    for task, faces in lacking.items():
        if task != IDENTITY:
            joined = _joined([part.heads[task] for part in outputs], torch.from_numpy(order))
            heads[task] = _block(target.heads[task], ids, joined, faces)
    if IDENTITY not in lacking:
        return BatchRows(analyses, heads)
    embeddings = np.concatenate([part.embeddings.numpy() for part in outputs])[order]
    chosen = np.isin(ids, lacking[IDENTITY])
    return BatchRows(analyses, heads, ids[chosen], embeddings[chosen])


def _joined(parts: list[HeadOutput], order: torch.Tensor) -> HeadOutput:
    def column(name: str) -> torch.Tensor | None:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else torch.cat(columns)[order]

    names = ("probabilities", "value", "low", "high", "abstains", "codes")
    return replace(parts[0], **{name: column(name) for name in names})  # type: ignore[arg-type]


def _block(head: HeadTarget, ids: Ints, output: HeadOutput, lacking: Ints) -> HeadBlock:
    """Return the rows of those faces that lack them."""
    rows = head_rows(output)
    chosen = np.flatnonzero(np.isin(ids, lacking))
    if len(chosen) == len(ids):
        return HeadBlock(head.reading_id, ids, rows)
    columns = ((name, getattr(rows, name)) for name in ("probabilities", "value", "low", "high", "abstains", "codes"))
    taken = {name: column[chosen] for name, column in columns if column is not None}
    return HeadBlock(head.reading_id, ids[chosen], replace(rows, **taken))


def _scores_of(session: Session, batch: Batch, head: HeadTarget) -> NDArray[np.void]:
    key = {"first": batch.first_id, "last": batch.last_id, "readings": list(head.others)}
    columns = {"face_id": "bigint", "scores": Codes(len(head.branch.labels))}
    return read_rows(session, _SCORES, columns, key)  # type: ignore[arg-type]


def _union(parts: list[Ints]) -> Ints:
    return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))
