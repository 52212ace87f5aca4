"""A unit is complete when its decoder has ended and every frame and face has come back; crops fill strips."""

from types import SimpleNamespace

import numpy as np

from worker.analysis.flight import UnitInFlight
from worker.analysis.results import DetectedFaces, InferredChunk
from worker.errors import MediaRejected
from worker.storage.crops import STRIP_ROWS
from worker.types import DecodedFrame

UNIT = SimpleNamespace(unit_id=1)


def frame(at_seconds=0.0, *, cut=False):
    return DecodedFrame(0, at_seconds, np.zeros((1, 1, 3), np.uint8), scene_cut=cut)


def chunk(batch, kept, dropped=0, seconds=0.25):
    count = kept + dropped
    table = np.zeros((count, 5, 2), np.float32)
    reasons = ("profile",) * dropped + (None,) * kept
    faces = DetectedFaces(
        frame_index=np.full(count, batch),
        at_seconds=np.zeros(count),
        boxes=table[:, :4, 0],
        landmarks=table,
        scores=table[:, 0, 0],
        quality=table[:, 0, 0],
        dropped=reasons,
    )
    crops = np.zeros((kept, 2, 2, 3), np.uint8)
    return InferredChunk(UNIT, batch, faces.inferred(np.zeros((count, 4), np.float32), {}), crops, seconds)


def test_a_unit_waits_for_its_decoder_its_frames_and_its_faces():
    flight = UnitInFlight(UNIT)
    flight.add_frame(frame())
    flight.add_frame(frame(2.0, cut=True))
    flight.end_decode(None, 1.5, ["page 2"])
    assert not flight.is_complete
    flight.end_detection(1, 0.5, None, has_faces=False)
    assert not flight.is_complete
    flight.end_detection(1, 0.5, "reduced", has_faces=True)
    assert not flight.is_complete
    flight.add_faces(chunk(0, kept=1))
    assert flight.is_complete
    result = flight.result()
    assert (result.frame_count, result.face_count, result.cuts_seconds) == (2, 1, (2.0,))
    assert result.notes == ("page 2", "reduced")
    assert result.stage_seconds == {"decode": 1.5, "detect": 1.0, "infer": 0.25}


def test_a_unit_without_frames_is_complete_when_its_decoder_ends():
    flight = UnitInFlight(UNIT)
    assert not flight.is_complete
    error = MediaRejected("corrupt", "no frame")
    flight.end_decode(error, 0.0, ())
    assert flight.is_complete
    assert flight.result().error is error


def test_faces_are_in_the_order_of_detection_however_they_come_back():
    flight = UnitInFlight(UNIT)
    for batch in (4, 2, 3):
        flight.add_faces(chunk(batch, kept=1))
    assert [faces.frame_index[0] for faces in flight.result().faces] == [2, 3, 4]


def test_crops_of_one_batch_share_a_strip():
    flight = UnitInFlight(UNIT)
    counts = (STRIP_ROWS - 1, 1, 2, STRIP_ROWS + 5, 1)
    strips = [flight.add_faces(chunk(batch, kept, dropped=1)) for batch, kept in enumerate(counts)]
    assert strips == [0, 0, 1, 2, 3]
    faces = flight.result().faces
    assert [(part.crop_strip[0], part.crop_index[0]) for part in faces] == [(-1, -1)] * 5, "dropped: no crop"
    assert [part.crop_strip[1:].tolist() for part in faces] == [
        [strip] * kept for strip, kept in zip(strips, counts, strict=True)
    ]
    assert [part.crop_index[1] for part in faces] == [0, STRIP_ROWS - 1, 0, 0, 0]
    np.testing.assert_array_equal(faces[0].crop_index[1:], np.arange(STRIP_ROWS - 1))
