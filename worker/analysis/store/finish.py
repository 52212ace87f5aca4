"""Finish stage: when all ranges of an analysis have ended, its faces become appearances.

The stage is a unit of its own, with a lease, a token and attempts: a file whose faces cannot be joined is quarantined
like one that cannot be decoded, and delays no other. Appearances are built from the stored rows of the whole file, so
that borders between ranges cut nothing and the order in which workers ended them does not matter.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.rows import allocate_ids
from worker.analysis.store.appearance_rows import NewAppearance, Owner, assign_faces, insert_appearances
from worker.analysis.store.face_blocks import read_face_blocks, read_shots
from worker.analysis.tracking.joining import Joiner
from worker.errors import LeaseLostError
from worker.ledger import analyses
from worker.ledger import units as ledger
from worker.ledger.locks import keep_analysis, lock_work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from worker.analysis.tracking.appearances import Appearance
    from worker.ledger.releases import HeadSpec, ReleaseIds
    from worker.ledger.units import LeasedUnit


def finish_leased(
    session: Session,
    unit: LeasedUnit,
    release: ReleaseIds,
    heads: Mapping[str, HeadSpec],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Join the faces of an analysis whose finish unit this worker holds, and close it.

    Args:
        session: a transaction of its own; it locks no row that another worker waits for until all is written.
        unit: the unit.
        release: of the unit.
        heads: by task, the heads of the release.
        check: called for each block of faces; raises to abort.

    Raises:
        LeaseLostError: the unit was cancelled, or another worker holds it; the caller rolls back.
    """
    started = time.monotonic()

    def check_lease() -> None:
        check()
        if not ledger.is_held(session, unit):
            raise LeaseLostError(f"unit {unit.unit_id} is no longer held under token {unit.token}")

    keep_analysis(session, unit)  # otherwise an erasure that has begun would wait for the faces written here
    build_appearances(session, unit.analysis_id, release, heads, check_lease)
    check_lease()
    lock_work(session, [unit])
    seconds = json.dumps({"finish": round(time.monotonic() - started, 4)})
    ledger.finish_unit(session, unit, "done", None, ledger.Effort(stage_seconds=seconds))
    analyses.end_analysis(session, unit.analysis_id)


def build_appearances(
    session: Session,
    analysis_id: int,
    release: ReleaseIds,
    specs: Mapping[str, HeadSpec],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Join the stored faces of an analysis to appearances, in the caller's transaction."""
    owner = session.execute(
        text("SELECT analysis_id, media_id FROM analysis WHERE analysis_id = :id"), {"id": analysis_id}
    ).one()
    joiner = Joiner(read_shots(session, analysis_id), specs)
    writing = _Writing(session, Owner(*owner), release)
    for block in read_face_blocks(session, analysis_id, release, specs):
        joined = joiner.add(block.ids, block.faces, block.heads)
        check()
        numbers = writing.ids_of(joined.numbers)
        assign_faces(session, release.trunk_id, block.ids, numbers, block.faces.has_embedding)
        writing.insert(joined.complete)
    writing.insert(joiner.close())


class _Writing:
    """Writes the appearances of one analysis while their faces are read."""

    def __init__(self, session: Session, owner: Owner, release: ReleaseIds) -> None:
        self._session, self._owner, self._release = session, owner, release
        self._count = 0
        self._open: dict[int, int] = {}

    def ids_of(self, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the id of each number, allocating ids for new numbers; -1 stays -1."""
        count = max(int(numbers.max(initial=-1)) + 1 - self._count, 0)
        fresh = allocate_ids(self._session, "appearance", count)
        self._open.update(zip(range(self._count, self._count + count), fresh, strict=True))
        self._count += count
        found, place = np.unique(numbers, return_inverse=True)
        ids = np.array([self._open[number] if number >= 0 else -1 for number in found.tolist()], np.int64)
        return ids[place]

    def insert(self, appearances: Sequence[Appearance]) -> None:
        """Write complete appearances."""
        new = [
            NewAppearance(self._open.pop(appearance.number), self._owner, appearance, appearance.best_face)
            for appearance in appearances
        ]
        insert_appearances(self._session, self._release, new)
