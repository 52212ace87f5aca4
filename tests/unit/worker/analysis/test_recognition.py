"""Crops wait for full batches, the network runs beside its caller, and nothing is lost or mixed up."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.types import FaceOutputs
from worker.analysis.recognition import MOST_RUNNING, FaceRecognizer
from worker.analysis.results import FaceChunk, UnitResult


class Network:
    """Answers each crop with its first pixel, when it is let."""

    def __init__(self):
        self.go = threading.Event()
        self.sizes = []

    def infer(self, crops):
        assert self.go.wait(10)
        self.sizes.append(len(crops))
        return FaceOutputs(crops[:, 0, 0, :1].float(), {})


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def recognizer(network):
    recognizer = FaceRecognizer(network, 4)
    yield recognizer
    network.go.set()
    recognizer.close()


def enqueue(recognizer, values, dropped=0):
    """Give faces whose crops hold the values, behind so many dropped ones."""
    count = dropped + len(values)
    empty = np.zeros((count, 4), np.float32)
    reasons = ["too_small"] * dropped + [None] * len(values)
    chunk = FaceChunk(np.zeros(count, np.int64), empty[:, 0], empty, empty, empty[:, 0], empty[:, 0], reasons)
    crops = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
    crops[dropped:] = torch.tensor(values, dtype=torch.uint8)[:, None, None, None]
    result = UnitResult(SimpleNamespace(unit_id=1))
    recognizer._enqueue(result, chunk, crops)
    return result, chunk


def drain(recognizer):
    done = []
    while recognizer.busy:
        done += recognizer.finished()
    return done


def test_faces_wait_for_a_full_batch(recognizer, network):
    network.go.set()
    enqueue(recognizer, [1, 2, 3])
    assert recognizer.start_full() == []
    assert not recognizer.busy
    enqueue(recognizer, [4])
    recognizer.start_full()
    assert len(drain(recognizer)) == 2
    assert network.sizes == [4]


def test_a_batch_that_is_not_full_starts_when_nothing_else_runs(recognizer, network):
    enqueue(recognizer, [1])
    recognizer.start_waiting()
    enqueue(recognizer, [2])
    recognizer.start_waiting()
    network.go.set()
    drain(recognizer)
    recognizer.start_waiting()
    drain(recognizer)
    assert network.sizes == [1, 1]


def test_answers_reach_their_kept_faces(recognizer, network):
    network.go.set()
    first, chunk = enqueue(recognizer, [7, 9], dropped=2)
    second, other = enqueue(recognizer, [11, 13])
    assert first.faces_waiting == 2
    recognizer.start_full()
    done = drain(recognizer)
    assert [inferred.chunk for inferred in done] == [chunk, other]
    assert [inferred.crops[0, 0, 0, 0] for inferred in done] == [7, 11]
    np.testing.assert_array_equal(chunk.embeddings, [[np.nan], [np.nan], [7], [9]])
    np.testing.assert_array_equal(other.embeddings, [[11], [13]])
    assert first.faces_waiting == second.faces_waiting == 0
    assert first.stage_seconds.keys() == {"infer"}


def test_the_caller_waits_for_a_network_that_lags(recognizer, network):
    for value in range(MOST_RUNNING + 2):
        enqueue(recognizer, [value] * 4)
    threading.Timer(0.05, network.go.set).start()
    done = recognizer.start_full() + drain(recognizer)
    assert [int(inferred.chunk.embeddings[0, 0]) for inferred in done] == list(range(MOST_RUNNING + 2))


def test_a_failure_of_the_network_reaches_the_caller(recognizer, network):
    network.go.set()
    network.infer = lambda crops: torch.zeros(1) @ torch.zeros(2)
    enqueue(recognizer, [1, 2, 3, 4])
    recognizer.start_full()
    with pytest.raises(RuntimeError):
        drain(recognizer)
