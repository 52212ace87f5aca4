"""Due times of periods, cron expressions and windows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from worker.errors import UsageError
from worker.schedules.times import Times, parse_cron, parse_every, parse_times, parse_zone


def utc(words):
    return datetime.fromisoformat(words).replace(tzinfo=UTC)


def due(times, start, count):
    found = [utc(start)]
    for _ in range(count):
        found.append(times.next_after(found[-1]))
    return [at.strftime("%d %H:%M") for at in found[1:]]


def test_a_period_is_counted_from_the_last_time():
    assert due(parse_times(every="36h"), "2026-03-28T12:00", 2) == ["30 00:00", "31 12:00"]


@pytest.mark.parametrize(
    ("cron", "start", "expected"),
    [
        ("0 3 * * *", "2026-03-28T12:00", ["29 01:00", "30 01:00"]),
        ("30 2 * * *", "2026-03-28T12:00", ["29 01:00", "30 00:30"]),  # skipped: at the end of the gap
        ("30 2 * * *", "2026-10-24T12:00", ["25 00:30", "26 01:30"]),  # repeated: once
        ("0 3 * * mon-fri", "2026-03-27T12:00", ["30 01:00", "31 01:00"]),
        ("*/30 * * * *", "2026-10-25T00:20", ["25 00:30", "25 01:00", "25 01:30"]),
    ],
)
def test_a_cron_expression_holds_in_its_zone_over_both_changes_of_the_clocks(cron, start, expected):
    times = parse_times(cron=cron, zone="Europe/Berlin")
    assert due(times, start, len(expected)) == expected


def test_a_window_is_due_when_it_opens():
    times = parse_times(window="22:00-06:00", days="mon-fri", zone="Europe/Berlin")
    assert due(times, "2026-10-23T12:00", 2) == ["23 20:00", "26 21:00"]
    assert times.opening(utc("2026-10-24T03:59")) == utc("2026-10-23T20:00")
    assert times.opening(utc("2026-10-24T04:00")) is None
    assert parse_times(every="1h").opening(utc("2026-10-24T03:59")) is None


def test_days_alone_are_whole_days():
    times = parse_times(days="sat")
    assert times.opening(utc("2026-10-24T23:59")) == utc("2026-10-24T00:00")
    assert times.opening(utc("2026-10-25T00:00")) is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cron": "0 3 * * *", "every": "1h"},
        {"every": "1h", "days": "mon"},
        {"cron": "0 3 * * *", "window": "1:00-2:00"},
    ],
)
def test_exactly_one_way_states_the_times(options):
    with pytest.raises(UsageError, match="expected one of"):
        parse_times(**options)


@pytest.mark.parametrize(
    "cron", ["", "* * * *", "* * * * * *", "60 * * * *", "0 3 * * mon-", "0 0 30 2 *", "@daily", "0 3 31 4 *"]
)
def test_a_cron_expression_that_never_comes_is_refused(cron):
    with pytest.raises(UsageError, match="such as '0 3"):
        parse_cron(cron)


@pytest.mark.parametrize("every", ["", "24", "0h", "29s", "1w", "h", "-1h", "367d", "nan s"])
def test_a_period_that_cannot_be_used_is_refused(every):
    with pytest.raises(UsageError, match="such as 24h"):
        parse_every(every)


def test_periods_are_read_in_seconds_minutes_hours_and_days():
    assert [parse_every(words) for words in ("30s", "1.5m", "24h", "7 D")] == [30, 90, 86_400, 604_800]


@pytest.mark.parametrize("zone", ["", "Berlin", "CEST", "+02:00", "../etc/passwd", "europe/berlin"])
def test_a_zone_that_does_not_exist_is_refused(zone):
    with pytest.raises(UsageError, match="Europe/Berlin"):
        parse_zone(zone)
    with pytest.raises(UsageError, match="time zone"):
        parse_times(window="22:00-06:00", zone=zone)


@pytest.mark.parametrize(
    ("times", "described"),
    [
        (Times(every_seconds=86_400), "every 1d"),
        (Times(every_seconds=90), "every 90s"),
        (parse_times(cron=" 0  3 * * * ", zone="Europe/Berlin"), "cron 0 3 * * * Europe/Berlin"),
        (parse_times(window="22:00-06:00", days="mon-fri"), "22:00-06:00 mon,tue,wed,thu,fri UTC"),
    ],
)
def test_times_are_described_in_one_line(times, described):
    assert times.describe() == described
