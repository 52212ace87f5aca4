import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.decode.child.readers.sampling import SampledFrame, Sampler, taken


def chosen(seconds, rate, end=None):
    sampler = Sampler(rate)
    following = [*seconds[1:], seconds[-1] if end is None else end]
    return [at for at, until in zip(seconds, following, strict=True) if sampler.takes(at, until)]


@pytest.mark.parametrize(
    ("fps", "rate", "expected"),
    [
        (30, 2.0, [0, 15, 30, 45]),
        (29.97, 2.0, [0, 15, 30, 45]),  # 14 / 29.97 is before the tick, 15 / 29.97 the first after it
        (24, 1.0, [0, 24, 48]),
        (5, 10.0, list(range(60))),  # fewer frames than ticks: each is taken once
        (25, None, list(range(60))),
    ],
)
def test_the_first_frame_at_or_after_each_tick_is_taken(fps, rate, expected):
    seconds = np.arange(60) / fps
    assert np.flatnonzero(taken(seconds, rate, seconds[-1] + 1 / fps)).tolist() == expected


def test_a_stamp_a_hair_before_its_tick_counts_as_on_it():
    assert chosen([0.0, 0.3333333, 0.4999999999, 0.6], 2.0) == [0.0, 0.4999999999]


def test_a_gap_of_many_ticks_gives_one_frame():
    assert chosen([0.0, 7.3, 7.4, 7.5], 2.0) == [0.0, 7.3, 7.5]


@pytest.mark.parametrize(
    ("seconds", "end", "expected"),
    [
        ([0.0, 0.1, 7.3, 7.4, 7.5], 7.6, [0.0, 0.1, 7.3, 7.5]),  # what is shown from 0.1 to 7.3 is another image
        ([0.0, 0.1, 0.2, 0.3, 7.3], 7.4, [0.0, 0.3, 7.3]),  # of those that fade, the one that stays
        ([0.0, 0.1, 0.9], 1.0, [0.0, 0.9]),  # no tick passes without a new image
        ([0.0, 0.3], 9.0, [0.0, 0.3]),  # the last one stays to the end
        ([0.0, 0.3], 0.9, [0.0]),
        ([5.0, 5.1, 5.4], 9.0, [5.0, 5.4]),
        ([0.4, 0.8, 1.2, 1.6], 2.0, [0.4, 1.2, 1.6]),  # ticks count from the first frame
    ],
)
def test_a_frame_that_stays_on_screen_is_taken_after_its_tick_too(seconds, end, expected):
    assert chosen(seconds, 2.0, end) == expected
    assert np.array(seconds)[taken(np.array(seconds), 2.0, end)].tolist() == expected


@given(fps=st.floats(0.1, 120), rate=st.floats(0.1, 120), count=st.integers(1, 90))
def test_at_a_constant_rate_only_first_frames_are_taken(fps, rate, count):
    seconds = np.arange(count) / fps
    first = np.diff(np.floor(seconds * rate + 1e-6), prepend=-1) > 0
    assert taken(seconds, rate, count / fps).tolist() == first.tolist()


@given(
    gaps=st.lists(st.integers(1, 3000), min_size=1, max_size=60),
    rate=st.sampled_from([0.1, 1.0, 2.0, 7.3, 30.0]),
    cut=st.integers(0, 60),
)
def test_going_on_in_the_middle_takes_the_same_frames(gaps, rate, cut):
    seconds = np.cumsum([0, *gaps]) / 1000
    end = seconds[-1] + 0.7
    until = [*seconds[1:], end]
    whole = taken(seconds, rate, end)
    assert [at in chosen(seconds, rate, end) for at in seconds] == whole.tolist()
    cut = min(cut, len(gaps))
    sampler = Sampler(rate, 0.0)
    if cut:
        sampler.resume_after(seconds[cut - 1])
    assert [sampler.takes(*pair) for pair in zip(seconds[cut:], until[cut:], strict=True)] == whole[cut:].tolist()


def test_a_tick_is_taken_once_though_the_stamps_go_back():
    sampler = Sampler(2.0)
    stamps = [0.0, 0.6, 0.4, 0.7, 0.2, 0.9, 1.0]
    assert [at for at in stamps if sampler.takes(at, at + 0.1)] == [0.0, 0.6, 1.0]


def test_every_frame_is_taken_where_no_rate_is_set():
    sampler = Sampler(None, 0.0)
    sampler.resume_after(3.0)
    assert [sampler.takes(at, at + 0.1) for at in (0.0, 0.0, 7.0)] == [True] * 3


def test_no_frame_of_none_is_taken():
    assert taken(np.zeros(0), 2.0, 0.0).shape == taken(np.zeros(0), None, 0.0).shape == (0,)


def test_ticks_count_from_the_first_frame_when_going_on():
    sampler = Sampler(2.0, 10.2)
    sampler.resume_after(10.3)  # tick 0
    assert [at for at in (10.6, 10.7, 10.9, 11.2) if sampler.takes(at, at + 0.1)] == [10.7, 11.2]
    whole = Sampler(2.0)
    whole.resume_after(0.6)  # without a first frame, ticks count from the start of the video
    assert [at for at in (0.9, 1.0) if whole.takes(at, at + 0.1)] == []


def test_a_frame_is_a_still_without_a_cut_unless_it_is_told():
    frame = SampledFrame(3, 1.5, np.zeros((2, 3, 3), np.uint8))
    assert (frame.hold_seconds, frame.starts_shot) == (0.0, False)
