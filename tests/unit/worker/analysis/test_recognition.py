"""Crops wait for full batches, the model runs beside its caller, and no face is lost or mixed up."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.types import Detections, FaceOutputs, HeadOutput
from worker.analysis.frames import FrameBatcher
from worker.analysis.recognition import MAX_RUNNING, FaceRecognizer
from worker.analysis.results import DetectedFaces
from worker.types import DecodedFrame


class GatedModel:
    """A release that answers each crop with its first pixel, once the test lets it go."""

    def __init__(self):
        self.go = threading.Event()
        self.sizes = []

    def infer(self, crops):
        assert self.go.wait(10)
        self.sizes.append(len(crops))
        return FaceOutputs(crops[:, 0, 0, :1].float(), {})


@pytest.fixture
def model():
    return GatedModel()


@pytest.fixture
def recognizer(model):
    recognizer = FaceRecognizer(model, 4)
    yield recognizer
    model.go.set()
    recognizer.close()


def enqueue(recognizer, values, dropped=0):
    """Enqueue faces whose crops hold the values, behind so many dropped ones."""
    count = dropped + len(values)
    empty = np.zeros((count, 4), np.float32)
    reasons = ("too_small",) * dropped + (None,) * len(values)
    faces = DetectedFaces(np.zeros(count, np.int64), empty[:, 0], empty, empty, empty[:, 0], empty[:, 0], reasons)
    crops = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
    crops[dropped:] = torch.tensor(values, dtype=torch.uint8)[:, None, None, None]
    unit = SimpleNamespace(unit_id=1)
    recognizer._enqueue(unit, faces, crops)
    return unit


def drain(recognizer):
    done = []
    while recognizer.busy:
        done += recognizer.finished()
    return done


def test_faces_wait_for_a_full_batch(recognizer, model):
    model.go.set()
    enqueue(recognizer, [1, 2, 3])
    assert recognizer.start_full() == []
    assert not recognizer.busy
    enqueue(recognizer, [4])
    recognizer.start_full()
    assert len(drain(recognizer)) == 2
    assert model.sizes == [4]


def test_a_batch_that_is_not_full_starts_when_nothing_else_runs(recognizer, model):
    enqueue(recognizer, [1])
    recognizer.start_waiting()
    enqueue(recognizer, [2])
    recognizer.start_waiting()
    model.go.set()
    drain(recognizer)
    recognizer.start_waiting()
    drain(recognizer)
    assert model.sizes == [1, 1]


def test_outputs_reach_their_kept_faces(recognizer, model):
    model.go.set()
    units = [enqueue(recognizer, [7, 9], dropped=2), enqueue(recognizer, [11, 13])]
    recognizer.start_full()
    done = drain(recognizer)
    assert [chunk.unit for chunk in done] == units
    assert [chunk.crops[:, 0, 0, 0].tolist() for chunk in done] == [[7, 9], [11, 13]]
    np.testing.assert_array_equal(done[0].faces.embeddings, [[np.nan], [np.nan], [7], [9]])
    np.testing.assert_array_equal(done[1].faces.embeddings, [[11], [13]])
    assert all(chunk.seconds > 0 for chunk in done)


def test_faces_that_were_all_dropped_do_not_wait_for_the_model(recognizer):
    unit = enqueue(recognizer, [], dropped=3)
    (chunk,) = recognizer.start_full()
    assert (chunk.unit, len(chunk.faces), len(chunk.crops), chunk.seconds) == (unit, 3, 0, 0.0)
    assert chunk.faces.embeddings is None
    assert recognizer.finished() == []


def test_the_caller_waits_for_a_model_that_lags(recognizer, model):
    for value in range(MAX_RUNNING + 2):
        enqueue(recognizer, [value] * 4)
    threading.Timer(0.05, model.go.set).start()
    done = recognizer.start_full() + drain(recognizer)
    assert [int(chunk.faces.embeddings[0, 0]) for chunk in done] == list(range(MAX_RUNNING + 2))


def test_a_failure_of_the_model_reaches_the_caller(recognizer, model):
    model.go.set()
    model.infer = lambda crops: torch.zeros(1) @ torch.zeros(2)
    enqueue(recognizer, [1, 2, 3, 4])
    recognizer.start_full()
    with pytest.raises(RuntimeError):
        drain(recognizer)


def found_in(frames, *rows):
    """Return a face in each of the rows of a batch, at (row, 0)."""
    count = len(rows)
    detections = Detections(
        frame=torch.tensor(rows),
        boxes=torch.tensor([[row, 0.0, 9.0, 9.0] for row in rows]),
        landmarks=torch.zeros(count, 5, 2),
        scores=torch.ones(count),
    )
    quality = SimpleNamespace(scores=torch.tensor([0.1 * row for row in rows]), dropped=("profile",) * count)
    return SimpleNamespace(detections=detections, quality=quality, crops=torch.zeros(count, 3, 2, 2), note="reduced")


def test_faces_return_to_the_units_of_their_frames(recognizer, model):
    model.device = "cpu"
    model.find = lambda pixels, search: found_in(pixels, 0, 1, 1, 3)
    batcher = FrameBatcher(4, 1 << 20)
    one, two, three = (SimpleNamespace(unit_id=number, kind="video") for number in range(3))
    for number, unit in enumerate((one, two, one)):
        pixels = np.zeros((4, 6, 3), np.uint8)
        assert batcher.add(unit, DecodedFrame(number, number / 2, pixels, scene_cut=False, hold_seconds=0.5)) is None
    batch = batcher.add(three, DecodedFrame(7, 3.5, pixels, scene_cut=False))
    found = recognizer.detect(batch)
    assert (found.units, found.note) == ((one, two, three), "reduced")
    chunks = recognizer.start_full()
    assert [chunk.unit for chunk in chunks] == [one, two, three]
    faces = [chunk.faces for chunk in chunks]
    assert [part.frame_index.tolist() for part in faces] == [[0], [1, 1], [7]]
    assert [part.at_seconds.tolist() for part in faces] == [[0.0], [0.5, 0.5], [3.5]]
    assert [part.hold_seconds.tolist() for part in faces] == [[0.5], [0.5, 0.5], [0.0]]
    assert [part.boxes[:, 0].tolist() for part in faces] == [[0], [1, 1], [3]]
    assert {part.frame_size for part in faces} == {(6, 4)}
    model.find = lambda pixels, search: found_in(pixels, 2)
    assert recognizer.detect(batch).units == (one,)
    (later,) = recognizer.start_full()
    assert later.batch > chunks[0].batch


def test_codes_of_scores_reach_the_rows_of_their_faces(recognizer, model):
    def infer(crops):
        values = crops[:, 0, 0, :1].int()
        return FaceOutputs(values.float(), {"mood": HeadOutput(("x", "y"), values.float(), codes=values * 257)})

    model.infer = infer
    enqueue(recognizer, [3, 255], dropped=2)
    recognizer.start_waiting()
    (chunk,) = drain(recognizer)
    codes = chunk.faces.heads["mood"].codes
    assert codes.dtype == np.uint16
    assert codes.tolist() == [[0], [0], [771], [65535]]
    assert chunk.faces.heads["mood"].probabilities[2:].tolist() == [[3], [255]]
