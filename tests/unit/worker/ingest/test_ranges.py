import itertools

import pytest

from worker.ingest import plan_ranges
from worker.values import MediaInfo


def info(duration, kind="video"):
    return MediaInfo(kind=kind, format="mp4", width=4, height=4, duration_seconds=duration)


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
def test_ranges_cover_the_film(duration, borders):
    ranges = plan_ranges(info(duration), 60.0)
    assert ranges == list(itertools.pairwise([None, *borders, None]))


def test_a_still_is_one_range():
    assert plan_ranges(info(500.0, kind="image"), 60.0) == [(None, None)]


def test_a_header_that_claims_ages_does_not_fill_the_table():
    ranges = plan_ranges(info(1e12), 60.0)
    assert len(ranges) <= 100_001
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(ranges))
