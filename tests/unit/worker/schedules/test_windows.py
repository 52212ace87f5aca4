"""Windows over midnight and over both changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from worker.errors import UsageError
from worker.schedules.windows import DAYS, Window, parse_days, parse_window

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Window(opens=time(22), closes=time(6), days=("mon", "tue", "wed", "thu", "fri"))


def utc(words):
    return datetime.fromisoformat(words).replace(tzinfo=UTC)


def open_minutes(window, start, zone, hours):
    """Return the spans in which a window is open, found by looking at each minute."""
    spans, before = [], False
    for minute in range(hours * 60):
        now = start + timedelta(minutes=minute)
        is_open = window.opening(now, zone) is not None
        if is_open != before:
            spans.append(now.strftime("%d %H:%M"))
        before = is_open
    return spans


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens():
    # Friday's window ends on Saturday morning, and the next one is Monday's.
    assert open_minutes(NIGHT, utc("2026-07-03T12:00"), BERLIN, 96) == ["03 20:00", "04 04:00", "06 20:00", "07 04:00"]
    assert NIGHT.opening(utc("2026-07-04T03:59"), BERLIN) == utc("2026-07-03T20:00")
    assert NIGHT.opening(utc("2026-07-04T04:00"), BERLIN) is None
    assert NIGHT.next_opening(utc("2026-07-03T20:00"), BERLIN) == utc("2026-07-06T20:00")


@pytest.mark.parametrize(
    ("words", "day", "spans"),
    {
        "over the skipped hour": ("22:00-06:00", "2026-03-28", ["28 21:00", "29 04:00"]),  # 7 hours
        "ends in the skipped hour": ("01:30-02:30", "2026-03-28", ["29 00:30", "29 01:30"]),
        "begins in the skipped hour": ("02:30-03:15", "2026-03-28", ["29 01:00", "29 01:15"]),
        "lies in the skipped hour": ("02:15-02:45", "2026-03-28", ["29 01:00", "29 01:45"]),
        "over the repeated hour": ("22:00-06:00", "2026-10-24", ["24 20:00", "25 05:00"]),  # 9 hours
        "ends in the repeated hour": ("01:30-02:30", "2026-10-24", ["24 23:30", "25 00:30"]),
        "begins in the repeated hour": ("02:30-03:15", "2026-10-24", ["25 00:30", "25 02:15"]),
        "lies in the repeated hour": ("02:15-02:45", "2026-10-24", ["25 00:15", "25 00:45"]),
    }.values(),
)
def test_the_changes_of_the_clocks(words, day, spans):
    opens, closes = parse_window(words)
    start = utc(f"{day}T12:00")
    assert open_minutes(Window(opens=opens, closes=closes), start, BERLIN, 19) == spans


def test_a_zone_that_skips_midnight():
    cairo = ZoneInfo("Africa/Cairo")  # 2026-04-24 begins at 01:00
    window = Window(opens=time(0), closes=time(2))
    assert open_minutes(window, utc("2026-04-23T12:00"), cairo, 20) == ["23 22:00", "23 23:00"]


def test_whole_days_that_follow_each_other_are_one_window():
    weekend = Window(opens=time(0), closes=time(0), days=("sat", "sun"))
    assert open_minutes(weekend, utc("2026-10-23T12:00"), BERLIN, 96) == ["23 22:00", "25 23:00"]  # 49 hours


@pytest.mark.parametrize(
    "words", ["", "22-6", "22:00", "24:00-06:00", "22:60-06:00", "22:00-06:00-07:00", "noon-midnight", "22:00 06:00"]
)
def test_a_window_that_cannot_be_read_is_refused(words):
    with pytest.raises(UsageError, match=r"such as 22:00-06:00"):
        parse_window(words)


def test_an_empty_window_is_refused():
    with pytest.raises(UsageError, match="begins when it ends"):
        parse_window("22:00-22:00")


@pytest.mark.parametrize(
    ("words", "days"),
    [
        ("mon-fri", DAYS[:5]),
        ("Sat, Sun", DAYS[5:]),
        ("fri-mon", ("mon", "fri", "sat", "sun")),
        ("sun", ("sun",)),
        ("wed,mon-tue", DAYS[:3]),
    ],
)
def test_days(words, days):
    assert parse_days(words) == days


@pytest.mark.parametrize("words", ["", "monday", "mon-", "-mon", "mon--fri", "mon-tue-wed", "1-5", "mon,,tue"])
def test_days_that_cannot_be_read_are_refused(words):
    with pytest.raises(UsageError, match="mon-fri or sat,sun"):
        parse_days(words)


@pytest.mark.parametrize(
    "window", [NIGHT, Window(opens=time(9), closes=time(17, 30)), Window(opens=time(0), closes=time(0), days=("sun",))]
)
def test_a_description_states_hours_and_days(window):
    assert window.describe() in {"22:00-06:00 mon,tue,wed,thu,fri", "09:00-17:30", "sun"}
