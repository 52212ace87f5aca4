"""Times of a made video, whose stamps are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from worker.decode.child.readers.video.timeline import SampledFrames, Timeline


def timeline(stamps=(0, 10, 20, 30, 40, 50), keys=(0, 30), end=6.5):
    stamps = np.array(stamps, np.int64)
    return Timeline(stamps, stamps / 10, end, np.array(keys, np.int64), np.array(keys, np.int64), is_plain=True)


def test_a_video_is_as_long_as_its_stamps():
    assert len(timeline()) == 6


def test_samples_are_taken_to_the_end_of_the_last_frame():
    found = timeline().samples(0.5)
    assert found.indices.tolist() == [0, 2, 4]
    assert found.seconds.tolist() == [0.0, 2.0, 4.0]
    assert found.end_seconds == 6.5
    assert timeline(end=9.0).samples(0.5).indices.tolist() == [0, 2, 4, 5]
    assert timeline().samples(None).indices.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("keys", "limit", "numbers"),
    [
        ((0, 30), 10, [0, 3]),
        ((0, 10, 20, 30, 40, 50), 3, [0, 2, 4]),
        ((0, 10, 20, 30, 40, 50), 2, [0, 3]),
        ((0, 10, 20, 30, 40, 50), 6, [0, 1, 2, 3, 4, 5]),
        ((10, 12, 70), 5, [1, 2]),  # between two frames counts as the later one, and behind the last as none
        ((), 5, []),
    ],
)
def test_key_frames_are_spread_over_all_frames(keys, limit, numbers):
    found = timeline(keys=keys).key_frames(limit)
    assert [(frame.at_seconds, frame.number) for frame in found] == [(float(n), n) for n in numbers]


def test_a_video_without_frames_has_no_key_frames():
    assert timeline(stamps=(), keys=(3,)).key_frames(5) == ()


@pytest.mark.parametrize(("index", "key"), [(0, 0), (2, 0), (3, 3), (5, 3)])
def test_decoding_begins_at_the_key_frame_before(index, key):
    assert timeline().key_before(index) == key
    assert timeline(keys=(10,)).key_before(0) == 0


@pytest.mark.parametrize(("stamp", "index"), [(-5, 0), (0, 0), (9, 0), (10, 1), (49, 4), (50, 5), (99, 5)])
def test_a_frame_is_shown_from_its_stamp_to_the_next(stamp, index):
    assert timeline().index_of(stamp) == index


def test_a_frame_ends_with_the_next_one_or_with_the_video():
    assert [timeline().until(index) for index in (0, 4, 5)] == [1.0, 5.0, 6.5]


def sampled():
    return SampledFrames(np.array([0, 4, 9, 12]), np.array([0.0, 1.0, 2.0, 3.0]), 3.5)


@pytest.mark.parametrize(
    ("start", "end", "indices"),
    [
        (None, None, [0, 4, 9, 12]),
        (None, 2.0, [0, 4]),
        (1.0, None, [0, 4, 9, 12]),  # with the one before
        (1.5, 2.5, [4, 9]),
        (0.0, 1.5, [0, 4]),
        (2.0, 2.0, []),
        (2.1, 2.9, []),
        (3.1, None, []),
    ],
)
def test_a_range_has_its_frames_and_the_one_before(start, end, indices):
    assert sampled().between(start, end).tolist() == indices


@pytest.mark.parametrize(
    ("index", "at_seconds", "hold"), [(0, 0.0, 1.0), (4, 1.25, 0.75), (5, 1.0, 1.0), (12, 3.0, 0.5), (12, 4.0, 0.0)]
)
def test_a_frame_is_held_until_the_next_sampled_one(index, at_seconds, hold):
    assert sampled().hold_seconds(index, at_seconds) == pytest.approx(hold)
