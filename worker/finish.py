"""Finish stage: when the last unit of an analysis is stored, its faces become appearances, in the same transaction.

Appearances are built over the stored rows of the whole file, so that the borders between units cut nothing and the
order in which workers finished them does not matter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.copy import allocate_ids
from worker import ledger
from worker.appearance_rows import Owner, assign_faces, insert_appearances
from worker.joining import HeadSpec, Joiner
from worker.locks import lock_files
from worker.store import store_unit
from worker.stored_faces import read_face_blocks, read_shots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from worker.appearances import Appearance
    from worker.joining import Joined
    from worker.results import UnitResult

__all__ = ("HeadSpec", "build_appearances", "finish_analysis", "finish_forgotten", "store_whole")


def finish_analysis(
    session: Session, analysis_id: int, heads: Mapping[str, HeadSpec], *, is_joined: bool = False
) -> None:
    """Close an analysis if its last unit has ended; until then do nothing.

    Args:
        session: the transaction in which that unit was stored.
        analysis_id: the analysis that the unit belongs to.
        heads: by task, the heads of the release.
        is_joined: its appearances are stored already.
    """
    outcome = ledger.settle_analysis(session, analysis_id)
    if outcome is None:
        return
    if not is_joined and outcome.faces and outcome.state in {"done", "quarantined"}:
        build_appearances(session, analysis_id, heads)
    ledger.close_analysis(session, analysis_id, outcome)


def finish_forgotten(session: Session, release_id: int, heads: Mapping[str, HeadSpec]) -> list[int]:
    """Close analyses whose last unit was given up while nobody was there to notice; returns which they were.

    Every other end of a unit closes its analysis in the same transaction.
    """
    forgotten = session.execute(
        text("""SELECT DISTINCT q.analysis_id, a.media_id FROM unit q JOIN analysis a USING (analysis_id)
                WHERE q.state = 'quarantined' AND q.release_id = :release_id AND a.state = 'pending' AND NOT EXISTS
                (SELECT FROM unit u WHERE u.analysis_id = q.analysis_id AND u.state IN ('pending', 'leased'))"""),
        {"release_id": release_id},
    ).all()
    lock_files(session, (row.media_id for row in forgotten))
    for row in forgotten:
        finish_analysis(session, int(row.analysis_id), heads)
    return [int(row.analysis_id) for row in forgotten]


def store_whole(session: Session, result: UnitResult, release_id: int, joined: Joined) -> None:
    """Write a unit that is a whole analysis, with its appearances; every row is written once.

    Raises:
        LeaseLostError: another worker holds or ended the unit; nothing is written.
    """
    ids = allocate_ids(session, "appearance", len(joined.complete))
    faces = store_unit(session, result, release_id, [ids[n] if n >= 0 else None for n in joined.numbers.tolist()])
    found = [replace(appearance, best_face=faces[appearance.best_face]) for appearance in joined.complete]
    insert_appearances(session, Owner(result.unit.analysis_id, result.unit.media_id, release_id), ids, found)


def build_appearances(session: Session, analysis_id: int, specs: Mapping[str, HeadSpec]) -> None:
    """Join the stored faces of an analysis to appearances, in the caller's transaction."""
    owner = session.execute(
        text("SELECT analysis_id, media_id, release_id FROM analysis WHERE analysis_id = :id"), {"id": analysis_id}
    ).one()
    joiner = Joiner(read_shots(session, analysis_id), specs)
    writing = _Writing(session, Owner(*owner))
    for block in read_face_blocks(session, analysis_id, specs):
        joined = joiner.add(block.ids, block.faces, block.heads)
        assign_faces(session, block.ids, writing.ids_of(joined.numbers))
        writing.insert(joined.complete)
    writing.insert(joiner.close())


class _Writing:
    """Appearances of one analysis that are written while their faces come."""

    def __init__(self, session: Session, owner: Owner) -> None:
        self._session, self._owner = session, owner
        self._known = 0
        self._open: dict[int, int] = {}

    def ids_of(self, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the id of each number, with new ids for the numbers that come for the first time; -1 stays."""
        count = max(int(numbers.max(initial=-1)) + 1 - self._known, 0)
        fresh = allocate_ids(self._session, "appearance", count)
        self._open.update(zip(range(self._known, self._known + count), fresh, strict=True))
        self._known += count
        found, place = np.unique(numbers, return_inverse=True)
        ids = np.array([self._open[number] if number >= 0 else -1 for number in found.tolist()], np.int64)
        return ids[place]

    def insert(self, appearances: Sequence[Appearance]) -> None:
        """Write appearances that are complete."""
        ids = [self._open.pop(appearance.number) for appearance in appearances]
        insert_appearances(self._session, self._owner, ids, appearances)
