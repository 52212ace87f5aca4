import itertools

import pytest

from worker.ingest import RangeOptions, plan_ranges
from worker.types import KeyFrame, MediaInfo, TimeRange

MINUTE = RangeOptions(range_seconds=60.0, frames_per_second=2.0)


def info(duration, kind="video", **more):
    return MediaInfo(kind=kind, format="mp4", width=4, height=4, duration_seconds=duration, **more)


@pytest.mark.parametrize(
    ("duration", "borders"),
    [
        (None, []),
        (0.0, []),
        (12.0, []),
        (60.0, []),
        (65.9, []),  # what is left over is too short for a range of its own
        (66.1, [60.0]),
        (120.5, [60.0]),
        (200.0, [60.0, 120.0, 180.0]),
        (float("nan"), []),
        (float("inf"), []),
        (-5.0, []),
    ],
)
def test_ranges_cover_the_video(duration, borders):
    assert plan_ranges(info(duration), MINUTE) == [
        TimeRange(*pair) for pair in itertools.pairwise([None, *borders, None])
    ]


def test_an_image_is_one_range():
    assert plan_ranges(info(500.0, kind="image"), MINUTE) == [TimeRange()]


def test_a_video_that_is_decoded_from_its_start_is_one_range():
    assert plan_ranges(info(5000.0, is_seekable=False), MINUTE) == [TimeRange()]


def test_a_header_that_claims_ages_does_not_fill_the_table():
    ranges = plan_ranges(info(1e12), MINUTE)
    assert len(ranges) <= 100_001
    assert all(one.end_seconds == other.start_seconds for one, other in itertools.pairwise(ranges))


def keys(count, every, rate):
    return tuple(KeyFrame(number / rate, number) for number in range(0, count, every))


def sizes(ranges, rate, count):
    borders = [0, *(round(one.start_seconds * rate) for one in ranges[1:]), count]
    return [after - before for before, after in itertools.pairwise(borders)]


@pytest.mark.parametrize(
    ("rate", "every"),
    [(25, 12), (25, 250), (60, 250), (240, 30), (1, 250), (1 / 60, 250), (29.97, 300), (12.5, 1), (25, 1400)],
)
@pytest.mark.parametrize("count", [100, 1600, 20_000])
def test_ranges_cost_about_the_same_and_begin_behind_key_frames(rate, every, count):
    found = keys(count, every, rate)
    film = info(count / rate, frames_per_second=rate, frame_count=count, key_frames=found)
    ranges = plan_ranges(film, MINUTE)
    assert ranges[0].start_seconds is None
    assert ranges[-1].end_seconds is None
    assert all(one.end_seconds == other.start_seconds for one, other in itertools.pairwise(ranges))
    starts = {key.at_seconds + 0.5 for key in found}
    assert {one.start_seconds for one in ranges[1:]} <= starts
    if count == 100:
        assert len(ranges) == 1
    for frames in sizes(ranges, rate, count)[:-1]:
        assert 1500 <= frames <= 1500 + every + 0.5 * rate + 1


def test_where_only_the_first_frame_is_a_key_nothing_is_cut():
    film = info(4000.0, frame_count=100_000, key_frames=(KeyFrame(0.0, 0),))
    assert plan_ranges(film, MINUTE) == [TimeRange()]


def test_every_frame_is_cut_right_behind_the_key_frame():
    film = info(200.0, frame_count=5000, key_frames=keys(5000, 50, 25))
    every = RangeOptions(range_seconds=60.0)
    assert [one.start_seconds for one in plan_ranges(film, every)[1:]] == pytest.approx([60.0001, 120.0001, 180.0001])


@pytest.mark.parametrize(("rate", "length"), [(50.0, 30.0), (1 / 60, 90_000.0), (None, 60.0), (12.5, 120.0)])
def test_without_key_frames_the_rate_says_how_long_a_range_is(rate, length):
    ranges = plan_ranges(info(4 * length, frames_per_second=rate), MINUTE)
    assert [one.start_seconds for one in ranges[1:]] == pytest.approx([length, 2 * length, 3 * length])


@pytest.mark.parametrize(
    "claim",
    [
        {"duration": 69 * 86_400.0},
        {"duration": 69 * 86_400.0, "frames_per_second": 1000.0},
        {"duration": 1e12, "frame_count": 1 << 31},
        {"duration": 3600.0, "frame_count": 1 << 31, "key_frames": keys(3_000_000, 1501, 25)},
    ],
)
@pytest.mark.parametrize(("byte_size", "most"), [(1000, 16), (100_000, 16), (1_000_000, 90)])
def test_no_file_is_cut_into_more_ranges_than_its_bytes_can_be_frames(claim, byte_size, most):
    options = RangeOptions(range_seconds=60.0, frames_per_second=2.0, byte_size=byte_size)
    ranges = plan_ranges(info(**claim), options)
    assert 1 <= len(ranges) <= most
    assert (ranges[0].start_seconds, ranges[-1].end_seconds) == (None, None)
    assert all(one.end_seconds == other.start_seconds for one, other in itertools.pairwise(ranges))
