import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.decode.sampling import Sampler, taken


def chosen(seconds, rate):
    sampler = Sampler(rate)
    return [at for at in seconds if sampler.takes(at)]


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
    assert np.flatnonzero(taken(seconds, rate)).tolist() == expected


def test_a_stamp_a_hair_before_its_tick_counts_as_on_it():
    assert chosen([0.0, 0.3333333, 0.4999999999, 0.6], 2.0) == [0.0, 0.4999999999]


def test_a_gap_of_many_ticks_gives_one_frame():
    assert chosen([0.0, 0.1, 7.3, 7.4, 7.5], 2.0) == [0.0, 7.3, 7.5]


@given(
    gaps=st.lists(st.integers(1, 3000), min_size=1, max_size=60),
    rate=st.sampled_from([0.1, 1.0, 2.0, 7.3, 30.0]),
    cut=st.integers(0, 60),
)
def test_going_on_in_the_middle_takes_the_same_frames(gaps, rate, cut):
    seconds = np.cumsum([0, *gaps]) / 1000
    whole = taken(seconds, rate)
    assert [at in chosen(seconds, rate) for at in seconds] == whole.tolist()
    cut = min(cut, len(gaps))
    sampler = Sampler(rate)
    if cut:
        sampler.resume_after(seconds[cut - 1])
    assert [sampler.takes(at) for at in seconds[cut:]] == whole[cut:].tolist()
