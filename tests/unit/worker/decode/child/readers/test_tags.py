from __future__ import annotations

import pytest

from worker.decode.child.readers.tags import camera_name, merge_tags, parse_iso_6709, parse_time
from worker.types import MediaTags


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("2019:07:01 12:30:05", None, ("2019-07-01T12:30:05", None)),
        ("2019:07:01 12:30:05", "+05:30", ("2019-07-01T12:30:05", "+05:30")),
        ("2021-06-01T12:00:00+0200", None, ("2021-06-01T12:00:00", "+02:00")),
        ("2021-06-01T10:00:00.000000Z", None, ("2021-06-01T10:00:00", "+00:00")),
        ("20190701 123000-08", None, ("2019-07-01T12:30:00", "-08:00")),
        ("1968-05-03", None, ("1968-05-03T00:00:00", None)),
        ("2019-07-01T12:30", None, ("2019-07-01T12:30:00", None)),
    ],
)
def test_times_of_all_notations_are_read(written, zone, expected):
    assert parse_time(written, zone) == expected


@pytest.mark.parametrize(
    "written",
    [None, "", "0000:00:00 00:00:00", "2019:13:01 00:00:00", "2019", "1904-01-01T00:00:00Z", "1970-01-01", "0001-02-03",
     "yesterday", "2019:07:01 12:30:05 and more"],
)  # fmt: skip
def test_what_is_no_time_is_none(written):
    assert parse_time(written) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("+48.8577+002.2950/", (48.8577, 2.295)),
        ("-33.8568+151.2153+012.000/", (-33.8568, 151.2153)),
        ("+00.0000+000.0000/", None),
        ("+99.0000+002.2950/", None),
        ("Paris", None),
        (None, None),
    ],
)
def test_places_are_read(written, expected):
    assert parse_iso_6709(written) == expected


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"), ("NIKON CORPORATION", "D70", "NIKON CORPORATION D70"),
        (None, "D70", "D70"), (" ", None, None),
    ],
)  # fmt: skip
def test_a_camera_is_named_once(make, model, expected):
    assert camera_name(make, model) == expected


def test_the_first_source_that_states_a_value_counts_and_a_time_keeps_its_own_zone():
    first = MediaTags(taken_at="2019-07-01T12:30:05", title=" ", latitude=1.0, longitude=2.0)
    second = MediaTags(
        taken_at="2020-01-01T00:00:00", utc_offset="+02:00", title="A" * 900, longitude=9.0, keywords=("B" * 900,)
    )
    merged = merge_tags([first, second])
    assert (merged.taken_at, merged.utc_offset, merged.longitude) == ("2019-07-01T12:30:05", None, 2.0)
    assert (len(merged.title), [len(word) for word in merged.keywords]) == (500, [500])
