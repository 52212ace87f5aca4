"""The faces of a unit become the tracker's input, with times, boxes and predictions that are comparable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.branches import BranchSpec
from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.tracking.joining import _track_input, join_unit
from worker.ledger.releases import HeadSpec
from worker.ledger.units import LeasedUnit
from worker.types import HeadRows, MediaInfo

INFO = MediaInfo(kind="video", format="made", width=640, height=360)
BOX = (100.0, 60.0, 180.0, 150.0)
AGE = BranchSpec(task="age", kind="age", labels=("20", "21"), depths=("embedding",))
GENDER = BranchSpec(task="gender", kind="softmax", labels=("male", "female"), depths=("embedding",))
HEADS = {"age": HeadSpec(AGE), "gender": HeadSpec(GENDER)}


def unit(kind, fps):
    return LeasedUnit(
        unit_id=1, token=1, attempts=1, analysis_id=1, media_id=1, sha256="", location="/a", kind=kind, ordinal=0,
        start_seconds=None, end_seconds=None, sampling_fps=fps, is_whole=True,
    )  # fmt: skip


def face(number=0, *, size=(640, 360), dropped=None):
    return StoredFaces(
        frame_index=np.array([number], np.int64),
        at_seconds=np.array([number / 2]),
        boxes=np.array([BOX], np.float32),
        landmarks=np.zeros((1, 5, 2), np.float32),
        scores=np.ones(1, np.float32),
        quality=np.full(1, 0.7, np.float32),
        dropped=(dropped,),
        embeddings=None if dropped else np.eye(1, 128, dtype=np.float32),
        frame_size=size,
    )


@pytest.mark.parametrize(
    ("size", "info", "scale"),
    [
        ((640, 360), INFO, (1, 1)),
        ((320, 90), INFO, (2, 4)),
        (None, INFO, (1, 1)),
        ((320, 90), None, (1, 1)),
        ((320, 90), replace(INFO, width=None), (1, 1)),
        ((320, 90), replace(INFO, height=None), (1, 1)),
    ],
)
def test_boxes_are_those_of_a_frame_of_the_size_of_the_file(size, info, scale):
    boxes = _track_input(face(size=size), info).boxes
    assert boxes.tolist() == [[value * scale[place % 2] for place, value in enumerate(BOX)]]


@pytest.mark.parametrize(
    ("kind", "fps", "screen"), [("image", 2.0, 0.0), ("image", None, 0.0), ("video", None, 0.0), ("video", 2.0, 0.5)]
)
def test_a_frame_of_a_sampled_video_lasts_a_step_where_nothing_else_is_known(kind, fps, screen):
    (one,) = join_unit(UnitResult(unit=unit(kind, fps), info=INFO, faces=(face(),)), {}).complete
    assert one.screen_seconds == screen


def test_faces_without_predictions_change_none():
    years = np.array([30.0], np.float32)
    heads = {
        "age": HeadRows((), np.zeros((1, 0), np.float32), years, years - 5, years + 6),
        "gender": HeadRows(("male", "female"), np.array([[0.2, 0.8]], np.float32)),
    }
    parts = [replace(face(), heads=heads), face(1, dropped="too_blurred"), replace(face(2), heads=heads)]
    joined = join_unit(UnitResult(unit=unit("video", 2.0), info=INFO, faces=tuple(parts)), HEADS)
    (one,) = joined.complete
    assert one.face_count == len(parts)
    assert (one.age.value, one.age.low, one.age.high) == pytest.approx((30.0, 25.0, 36.0))
    assert (one.gender.label, one.gender.confidence) == ("female", pytest.approx(0.8))
