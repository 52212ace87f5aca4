"""The size of each frame is stored with its faces, and code that compares or draws boxes uses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from models.branches import BranchSpec
from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.face_blocks import read_face_blocks
from worker.analysis.store.finish import build_appearances
from worker.analysis.tracking.joining import join_unit
from worker.ledger.analyses import end_analysis
from worker.ledger.leases import LeaseHolder
from worker.ledger.releases import HeadSpec
from worker.pictures.subjects import load_subjects
from worker.types import HeadRows, MediaInfo

INFO = MediaInfo(kind="video", format="mpegts", width=640, height=360, duration_seconds=4.0)
AGE = BranchSpec(task="age", kind="age", labels=("20", "21"), depths=("embedding",))
SOMEBODY = np.eye(1, 128, dtype=np.float32)


def face(number, box, size):
    """One poor face in a frame of a size: where it lies decides whose it is."""
    return StoredFaces(
        frame_index=np.array([number], np.int64),
        at_seconds=np.array([number / 2]),
        boxes=np.array([box], np.float32),
        landmarks=np.zeros((1, 5, 2), np.float32),
        scores=np.ones(1, np.float32),
        quality=np.full(1, 0.1, np.float32),
        dropped=(None,),
        embeddings=SOMEBODY,
        frame_size=size,
    )


def finished(archive, faces, *, whole=False):
    """Store faces, and join them before or afterwards."""
    analysis_id = archive.add(kind="video")
    with LeaseHolder(archive.sessions, archive.lease()) as leases, archive.sessions.begin() as session:
        (unit,) = leases.take(1)
        result = UnitResult(unit=unit, info=INFO, frame_count=len(faces), faces=tuple(faces))
        if whole:
            archive.store(session, result, join_unit(result, {}))
        else:
            archive.store(session, result)
            build_appearances(session, analysis_id, archive.ids, {})
        end_analysis(session, analysis_id, is_joined=True)
    return archive.sessions


CHANGES = [
    [(640, 360), (640, 360), (1280, 720), (1280, 720)],
    [(640, 360), (320, 180), (640, 360), (320, 180)],
    [(640, 360), (480, 360), (480, 360), (640, 360)],
    [(640, 360), (360, 640), (360, 640), (360, 640)],
]


def boxes(sizes):
    place = np.array([0.5, 0.25, 0.625, 0.5])  # shares of the frame
    return [np.tile(size, 2) * place for size in sizes]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("sizes", CHANGES)
def test_somebody_who_stays_is_one_appearance_in_frames_of_any_size(archive, sizes, whole):
    faces = [face(n, box, size) for n, (box, size) in enumerate(zip(boxes(sizes), sizes, strict=True))]
    with finished(archive, faces, whole=whole).begin() as session:
        rows = session.execute(text("SELECT appearance_id, frame_width, frame_height FROM faces ORDER BY frame_index"))
        assert [tuple(row) for row in rows] == [(1, *size) for size in sizes]


def joined(archive, frames):
    """Join faces in the order in which their frames were searched; qualities and ages identify the frames."""
    found = []
    for n in frames:
        one = face(n, boxes(CHANGES[1])[n], CHANGES[1][n])
        one.quality[:] = (0.2, 0.3, 0.9, 0.4)[n]
        ages = np.array([(20, 30, 60, 40)[n]], np.float32)
        head = HeadRows((), np.ones((1, 0), np.float32), ages, ages, ages)
        found.append(replace(one, heads={"age": head}))
    archive.add(kind="video")
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        (unit,) = leases.take(1)
        return join_unit(UnitResult(unit=unit, info=INFO, faces=tuple(found)), {"age": HeadSpec(AGE)})


@pytest.mark.parametrize("order", [[2, 3, 0, 1], [1, 3, 0, 2], [3, 2, 1, 0]])
def test_frames_are_joined_in_any_order_in_which_they_were_searched(archive, order):
    (expected,), (got,) = joined(archive, range(4)).complete, joined(archive, order).complete
    assert (got.start_seconds, got.end_seconds, order[got.best_face]) == (0.0, 1.5, expected.best_face) == (0.0, 1.5, 2)
    assert got.age == expected.age


@pytest.mark.parametrize("sizes", CHANGES)
def test_boxes_are_drawn_on_the_face_whatever_the_size_of_the_picture(archive, sizes):
    faces = [face(n, box, size) for n, (box, size) in enumerate(zip(boxes(sizes), sizes, strict=True))]
    with finished(archive, faces).begin() as session:
        (subject,) = load_subjects(session, 1)
    for size in {*sizes, (200, 100)}:
        for seconds in (0.0, 0.6, 1.0, 1.5):
            assert subject.box_at(seconds, size) == pytest.approx(np.tile(size, 2) * [0.5, 0.25, 0.625, 0.5])


def test_rows_of_before_have_the_size_of_the_file(archive):
    sizes = [(640, 360)] * 2
    faces = [face(n, box, None) for n, box in enumerate(boxes(sizes))]
    with finished(archive, faces).begin() as session:
        rows = session.execute(text("SELECT appearance_id, frame_width, frame_height FROM faces ORDER BY frame_index"))
        assert [tuple(row) for row in rows] == [(1, 640, 360)] * 2
        (subject,) = load_subjects(session, 1)
    assert subject.box_at(0.0, (1280, 720)) == pytest.approx([640, 180, 800, 360])


@pytest.mark.parametrize(("info", "scale"), [(INFO, (2, 4)), (replace(INFO, width=None, height=None), (1, 1))])
def test_stored_boxes_are_read_as_those_of_a_frame_of_the_size_of_the_file(archive, info, scale):
    archive.add(kind="video")
    box = np.array([10, 20, 50, 60], np.float32)
    with LeaseHolder(archive.sessions, archive.lease()) as leases, archive.sessions.begin() as session:
        (unit,) = leases.take(1)
        archive.store(session, UnitResult(unit=unit, info=info, faces=(face(0, box, (320, 90)),)))
        (block,) = read_face_blocks(session, unit.analysis_id, archive.ids, {})
    assert block.faces.boxes.tolist() == [(box * np.tile(scale, 2)).tolist()]


def test_the_first_range_of_a_video_tells_what_the_file_is(archive):
    archive.add(kind="video", units=2)
    infos = [INFO, replace(INFO, format="other", width=32, height=18)]
    with LeaseHolder(archive.sessions, archive.lease()) as leases, archive.sessions.begin() as session:
        for unit, info in zip(leases.take(2), infos, strict=True):
            archive.store(session, UnitResult(unit=unit, info=info))
        row = session.execute(text("SELECT format, width, height, duration_seconds FROM media_file")).one()
    assert tuple(row) == ("mpegts", 640, 360, 4.0)
