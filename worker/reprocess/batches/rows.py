"""The faces of a batch, and the rows that are written for them, in one transaction with the end of the batch.

Rows that another transaction wrote meanwhile are left out; one that it writes at the same moment fails the copy, which
is tried again. Faces of a file that is being erased are left to the next planning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg.errors import ForeignKeyViolation, UniqueViolation
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.bulk.arrays import read_rows
from db.bulk.columns import copy_columns
from worker.analysis.store.face_rows import answers
from worker.ledger.units import Effort, finish_unit
from worker.storage.transactions import run_transaction
from worker.types import HeadRows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session, sessionmaker

    from db.bulk.arrays import AnyType
    from db.bulk.columns import Values
    from models.types import HeadOutput
    from worker.ledger.batches import Batch
    from worker.reprocess.target import Target

    Ints = NDArray[np.int64]

MAX_ROW_TRIES = 20  # of a transaction that met the same rows of another one

_FACES = """
    SELECT f.face_id, f.analysis_id, f.unit_id, coalesce(f.strip_no, -1)::integer, coalesce(f.crop_index, -1)::integer
    FROM facet.face AS f JOIN facet.analysis AS a USING (analysis_id)
    WHERE f.face_id BETWEEN %(first)s AND %(last)s AND a.finder_id = %(finder)s AND a.is_current
      AND f.dropped_reason IS NULL AND (%(ids)s::bigint[] IS NULL OR f.face_id = ANY (%(ids)s::bigint[]))
    ORDER BY f.face_id"""
_FACE_TYPES: Mapping[str, AnyType] = {
    "face_id": "bigint", "analysis_id": "bigint", "unit_id": "bigint", "strip_no": "integer", "crop_index": "integer",
}  # fmt: skip
_PREDICTED = """
    SELECT face_id FROM facet.prediction WHERE face_id BETWEEN %(first)s AND %(last)s AND reading_id = %(reading)s"""
_EMBEDDED = """
    SELECT face_id FROM facet.face_embedding
    WHERE face_id BETWEEN %(first)s AND %(last)s AND trunk_id = %(trunk)s AND embedding IS NOT NULL"""
# Does not wait: an erasure holds the analysis until its faces are gone.
_KEEP = text("""
    SELECT analysis_id FROM analysis WHERE analysis_id = ANY(:ids) ORDER BY analysis_id FOR KEY SHARE SKIP LOCKED""")
_ALIVE = """
    SELECT face_id FROM facet.face
    WHERE face_id BETWEEN %(first)s AND %(last)s AND analysis_id = ANY(%(analyses)s::bigint[])"""
# A dropped face's row under the trunk has an appearance and no embedding; a kept one has none before it is computed.
_EMBEDDING_OF = text("DELETE FROM face_embedding WHERE face_id = ANY(:ids) AND trunk_id = :trunk AND embedding IS NULL")
# Scores that stand under a reading of retired releases alone (`worker.releases.own_rows`) go to the row that is new.
_LEFT_READINGS = text("""
    SELECT o.layer_id FROM layer AS l JOIN layer AS o ON o.parent_id = l.parent_id
    WHERE l.layer_id = :reading AND NOT EXISTS (
        SELECT FROM release_reading AS c JOIN release AS r USING (release_id)
        WHERE c.reading_id = o.layer_id AND r.retired_at IS NULL)""")
_TAKE_OVER = text("""
    UPDATE prediction AS p SET scores = d.scores FROM prediction AS d
    WHERE p.face_id = ANY(:ids) AND p.reading_id = :reading AND p.scores IS NULL
      AND d.face_id = p.face_id AND d.reading_id = ANY(:left) AND d.scores IS NOT NULL""")
_REMOVE_LEFT = text("DELETE FROM prediction WHERE face_id = ANY(:ids) AND reading_id = ANY(:left)")


@dataclass(frozen=True, slots=True, eq=False)
class HeadBlock:
    """The answers of one head for N faces."""

    reading_id: int
    face_ids: Ints
    """(N,) ascending."""
    rows: HeadRows
    with_scores: bool = True
    """False where another reading's row holds the scores."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchRows:
    """The results for the faces of a batch."""

    analyses: Ints
    """Of the faces."""
    heads: Mapping[str, HeadBlock] = field(default_factory=dict)
    embedded: Ints | None = None
    """(N,) faces with a new embedding, ascending."""
    embeddings: NDArray[np.float32] | None = None
    """(N, D)."""


def read_faces(session: Session, batch: Batch, target: Target) -> NDArray[Any]:
    """Return the kept faces of a batch that still exist, in the order of their numbers."""
    key = _range(batch) | {"finder": target.ids.finder_id, "ids": None if batch.ids is None else list(batch.ids)}
    return read_rows(session, _FACES, _FACE_TYPES, key)


def without(session: Session, batch: Batch, faces: Ints, reading_id: int) -> Ints:
    """Return those faces that have no row under a reading."""
    key = _range(batch) | {"reading": reading_id}
    return _outside(faces, read_rows(session, _PREDICTED, {"face_id": "bigint"}, key)["face_id"])


def without_embedding(session: Session, batch: Batch, faces: Ints, trunk_id: int) -> Ints:
    """Return those faces that have no embedding under a trunk."""
    key = _range(batch) | {"trunk": trunk_id}
    return _outside(faces, read_rows(session, _EMBEDDED, {"face_id": "bigint"}, key)["face_id"])


def head_rows(output: HeadOutput) -> HeadRows:
    """Return the output of a head as the store takes it."""
    parts = (output.value, output.low, output.high)
    value, low, high = (None if part is None else part.numpy() for part in parts)
    codes = None if output.codes is None else output.codes.numpy().astype(np.uint16)
    abstains = None if output.abstains is None else output.abstains.numpy()
    probabilities = output.probabilities.numpy()
    return HeadRows(output.labels, probabilities, value, low, high, abstains, codes, output.is_multi_label)


def store_batch(
    sessions: sessionmaker[Session],
    batch: Batch,
    target: Target,
    rows: BatchRows,
    seconds: Callable[[], Mapping[str, float]] = dict,
) -> int:
    """Write the rows of a batch and its end; return how many rows were written.

    Raises:
        LeaseLostError: another worker holds or ended the batch; nothing is written.
        RetryableError: the transaction met others again and again.
    """

    def work(session: Session) -> int:
        kept = session.scalars(_KEEP, {"ids": np.unique(rows.analyses).tolist()}).all()
        end_batch(session, batch, seconds())
        alive = read_rows(session, _ALIVE, {"face_id": "bigint"}, _range(batch) | {"analyses": list(kept)})["face_id"]
        return _write_embeddings(session, batch, target, rows, alive) + _write_heads(session, batch, rows, alive)

    return retry_races(lambda: run_transaction(sessions, "reprocess", work))


def end_batch(session: Session, batch: Batch, seconds: Mapping[str, float]) -> None:
    """Write the end of a batch; its faces count as planned.

    Raises:
        LeaseLostError: another worker holds or ended the batch.
    """
    spent = json.dumps({stage: round(one, 4) for stage, one in seconds.items()})
    finish_unit(session, batch, "done", effort=Effort(stage_seconds=spent))


def retry_races(attempt: Callable[[], int]) -> int:
    """Retry a transaction that inserted rows which another one inserted or deleted at the same moment."""
    for _ in range(MAX_ROW_TRIES - 1):
        try:
            return attempt()
        except DBAPIError as err:
            if not isinstance(err.orig, UniqueViolation | ForeignKeyViolation):
                raise
    return attempt()


def _write_heads(session: Session, batch: Batch, rows: BatchRows, alive: Ints) -> int:
    blocks: list[tuple[int, Mapping[str, Values]]] = []
    reread: list[tuple[int, Ints]] = []
    for head in rows.heads.values():
        wanted = without(session, batch, np.intersect1d(head.face_ids, alive), head.reading_id)
        places = np.searchsorted(head.face_ids, wanted)
        if not len(wanted):
            continue
        columns = answers([(head.rows, places)])
        if not head.with_scores:
            columns["scores"] = None
            reread.append((head.reading_id, wanted))
        blocks.append((len(wanted), {"face_id": wanted, "reading_id": head.reading_id, **columns}))
    written = copy_columns(session, "prediction", blocks)
    for reading_id, faces in reread:
        _take_over(session, reading_id, faces)
    return written


def _take_over(session: Session, reading_id: int, faces: Ints) -> None:
    """Move the scores of readings that no release has any more to rows that were read from them."""
    left = list(session.scalars(_LEFT_READINGS, {"reading": reading_id}))
    if left:
        values = {"ids": faces.tolist(), "reading": reading_id, "left": left}
        session.execute(_TAKE_OVER, values)
        session.execute(_REMOVE_LEFT, values)


def _write_embeddings(session: Session, batch: Batch, target: Target, rows: BatchRows, alive: Ints) -> int:
    if rows.embedded is None or rows.embeddings is None:
        return 0
    trunk_id = target.ids.trunk_id
    wanted = without_embedding(session, batch, np.intersect1d(rows.embedded, alive), trunk_id)
    if not len(wanted):
        return 0
    session.execute(_EMBEDDING_OF, {"ids": wanted.tolist(), "trunk": trunk_id})
    columns: Mapping[str, Values] = {
        "face_id": wanted,
        "trunk_id": trunk_id,
        "appearance_id": None,
        "embedding": rows.embeddings[np.searchsorted(rows.embedded, wanted)],
    }
    return copy_columns(session, "face_embedding", [(len(wanted), columns)])


def _range(batch: Batch) -> dict[str, object]:
    return {"first": batch.first_id, "last": batch.last_id}


def _outside(faces: Ints, known: Ints) -> Ints:
    found: Ints = faces[~np.isin(faces, known)]
    return found
