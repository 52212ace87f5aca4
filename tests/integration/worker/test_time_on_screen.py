"""Appearances last for as long as their frames are on screen."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text

from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.finish import build_appearances
from worker.ledger.analyses import end_analysis
from worker.ledger.leases import LeaseHolder

COLLINS, HOPPER = np.eye(2, 128, dtype=np.float32)


def face(number, at, hold, embedding):
    return StoredFaces(
        frame_index=np.array([number], np.int64),
        at_seconds=np.array([at]),
        boxes=np.array([(100, 100, 180, 200)], np.float32),
        landmarks=np.zeros((1, 5, 2), np.float32),
        scores=np.ones(1, np.float32),
        quality=np.full(1, 0.7, np.float32),
        dropped=(None,),
        embeddings=embedding[None],
        hold_seconds=None if hold is None else np.array([hold]),
        frame_size=(640, 360),
    )


def appearances(archive, faces, step, cuts=()):
    analysis_id = archive.add(kind="video")
    with LeaseHolder(archive.sessions, archive.lease()) as leases, archive.sessions.begin() as session:
        session.execute(text("UPDATE analysis SET sample_interval_seconds = :step"), {"step": step})
        (unit,) = leases.take(1)
        found = tuple(face(number, *one) for number, one in enumerate(faces))
        result = UnitResult(unit=unit, frame_count=len(faces), faces=found, cuts_seconds=tuple(cuts))
        archive.store(session, result)
        build_appearances(session, analysis_id, archive.ids, {})
        end_analysis(session, analysis_id, is_joined=True)
        columns = "start_seconds, end_seconds, screen_seconds"
        rows = session.execute(text(f"SELECT {columns} FROM appearances ORDER BY ordinal")).all()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("faces", "step", "cuts", "expected"),
    [
        (
            [(0.0, 10.0, COLLINS), (10.0, 10.0, HOPPER), (20.0, 10.0, COLLINS)],
            0.5,
            (10.0, 20.0),
            [(0.0, 9.5, 10.0), (10.0, 19.5, 10.0), (20.0, 29.5, 10.0)],
        ),
        ([(5.0 * n, 5.0, HOPPER) for n in range(12)], 0.5, (), [(0.0, 59.5, 60.0)]),
        ([(60.0 * n, 60.0, HOPPER) for n in range(60)], 0.5, (), [(0.0, 3599.5, 3600.0)]),
        ([(60.0 * n, 60.0, HOPPER) for n in range(60)], None, (), [(0.0, 3599.8, 3600.0)]),
        ([(0.0, 0.03, HOPPER)], 0.5, (), [(0.0, 0.0, 0.03)]),
        ([(0.5 * n, 0.5, HOPPER) for n in range(8)], 0.5, (), [(0.0, 3.5, 4.0)]),
        ([(0.04 * n, 0.04, HOPPER) for n in range(8)], None, (), [(0.0, 0.28, 0.32)]),
        ([(0.5 * n, None, HOPPER) for n in range(8)], 0.5, (), [(0.0, 3.5, 4.0)]),  # rows of before
        ([(0.0, None, HOPPER)], None, (), [(0.0, 0.0, 0.0)]),
    ],
)
def test_time_on_screen(archive, faces, step, cuts, expected):
    assert appearances(archive, faces, step, cuts) == [pytest.approx(one) for one in expected]


def test_appearances_of_before_count_one_step_behind_their_last_face(archive):
    appearances(archive, [(0.5 * n, 0.5, HOPPER) for n in range(4)], 0.5)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE appearance SET screen_seconds = NULL"))
        assert session.execute(text("SELECT screen_seconds FROM appearances")).scalar_one() == 2.0
