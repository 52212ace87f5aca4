"""Frames are gathered by kind and size, a batch has its limits, and frames of a dropped unit are forgotten."""

from types import SimpleNamespace

import numpy as np

from worker.analysis.frames import FrameBatcher
from worker.types import DecodedFrame

IMAGE, VIDEO, OTHER = (
    SimpleNamespace(unit_id=number, kind=kind) for number, kind in enumerate(("image", "video", "video"))
)


def frame(index, size=(4, 6)):
    pixels = np.full((*size, 3), index, np.uint8)
    return DecodedFrame(index, index / 2, pixels, scene_cut=False, hold_seconds=0.5)


def test_a_batch_is_full_by_its_frames():
    batcher = FrameBatcher(3, 1 << 20)
    assert batcher.add(VIDEO, frame(1)) is None
    assert batcher.add(OTHER, frame(8)) is None
    batch = batcher.add(VIDEO, frame(2))
    assert (batch.units, batch.unit_row.tolist(), batch.frame_counts) == ((VIDEO, OTHER), [0, 1, 0], [2, 1])
    assert batch.index.tolist() == batch.pixels[:, 0, 0, 0].tolist() == [1, 8, 2]
    assert (batch.at_seconds.tolist(), batch.hold_seconds.tolist()) == ([0.5, 4.0, 1.0], [0.5, 0.5, 0.5])
    assert (len(batch), batch.kind, batch.frame_size) == (3, "video", (6, 4))
    assert batcher.take_all() == []


def test_a_batch_is_full_when_one_more_frame_would_pass_its_bytes():
    size = frame(0).pixels.nbytes
    batcher = FrameBatcher(9, 2 * size)
    assert batcher.add(VIDEO, frame(1)) is None
    assert len(batcher.add(VIDEO, frame(2))) == 2
    assert len(FrameBatcher(9, 2 * size - 1).add(VIDEO, frame(1))) == 1


def test_frames_of_another_kind_or_size_are_another_batch():
    batcher = FrameBatcher(9, 1 << 20)
    for unit, one in ((VIDEO, frame(1)), (IMAGE, frame(2)), (VIDEO, frame(3, (6, 4))), (OTHER, frame(4))):
        assert batcher.add(unit, one) is None
    assert [batch.index.tolist() for batch in batcher.take_all()] == [[1, 4], [2], [3]]
    assert batcher.take_all() == []


def test_a_dropped_unit_leaves_the_frames_of_others():
    batcher = FrameBatcher(9, 1 << 20)
    for unit, one in ((VIDEO, frame(1)), (OTHER, frame(2)), (VIDEO, frame(3, (6, 4)))):
        batcher.add(unit, one)
    batcher.drop(VIDEO)
    assert [batch.index.tolist() for batch in batcher.take_all()] == [[2]]
