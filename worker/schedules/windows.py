"""Windows: from when to when on which days, by the clock of a time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As `datetime.weekday` counts them."""
MIDNIGHT = time(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time of the day at which work may run; one that ends before it begins ends on the next day.

    In the hour that a time zone skips, a window opens at the end of that hour, and closes as much later as the hour is
    long. In the hour that is repeated, its first passing counts.
    """

    opens: time
    closes: time
    """Equal to ``opens`` for whole days."""
    days: tuple[str, ...] = DAYS
    """Days on which it opens."""

    def opening(self, now: datetime, zone: ZoneInfo) -> datetime | None:
        """Return when the window that is open opened; None while it is closed."""
        found = [opens for opens, closes in self._near(now, zone) if opens <= now < closes]
        return min(found, default=None)

    def next_opening(self, now: datetime, zone: ZoneInfo) -> datetime:
        """Return the first opening after a moment."""
        return min(opens for opens, _ in self._near(now, zone) if opens > now)

    def _near(self, now: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
        """Yield opening and closing of the windows from yesterday to the same day of next week, and one more."""
        today = now.astimezone(zone).date()
        for distance in range(-1, 9):
            day = today + timedelta(days=distance)
            if DAYS[day.weekday()] in self.days:
                until = day if self.closes > self.opens else day + timedelta(days=1)
                yield _opening(day, self.opens, zone), _closing(until, self.closes, zone)

    def describe(self) -> str:
        """Return the window as `parse_window` and `parse_days` read it."""
        whole = self.opens == self.closes
        hours = "" if whole else f"{self.opens:%H:%M}-{self.closes:%H:%M}"
        days = "" if self.days == DAYS and not whole else ",".join(self.days)
        return " ".join(filter(None, (hours, days)))


def _closing(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the moment of a time of the day; one that is skipped is counted on from before the gap."""
    return datetime.combine(day, at, zone).astimezone(UTC)


def _opening(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the moment of a time of the day; one that is skipped is the end of the gap."""
    local = datetime.combine(day, at, zone)
    # A skipped time, read by the offset that holds behind the gap, lies before it, and the other way round.
    low, high = local.replace(fold=1).astimezone(UTC), local.astimezone(UTC)
    offset = local.replace(fold=1).utcoffset()
    while low < high - timedelta(seconds=1):  # in a repeated hour, low is the later one
        middle = low + (high - low) / 2
        low, high = (low, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, high)
    return high.replace(microsecond=0)


def parse_window(words: str) -> tuple[time, time]:
    """Return begin and end of a window such as ``22:00-06:00``.

    Raises:
        UsageError: it cannot be read, or is empty.
    """
    try:
        begin, end = (datetime.strptime(part, "%H:%M").time() for part in words.strip().split("-"))  # noqa: DTZ007
    except ValueError:
        raise UsageError(
            f"the window {words!r} cannot be read; expected begin and end on a 24-hour clock, such as 22:00-06:00 "
            "(00:00 is midnight)"
        ) from None
    if begin == end:
        raise UsageError(f"the window {words!r} begins when it ends; for whole days give --days alone")
    return begin, end


def parse_days(words: str) -> tuple[str, ...]:
    """Return the days of a list such as ``mon-fri`` or ``sat,sun``, from Monday on.

    Raises:
        UsageError: it cannot be read.
    """
    chosen: set[str] = set()
    for part in words.lower().split(","):
        first, _, last = (end.strip() for end in part.partition("-"))
        if first not in DAYS or (last or first) not in DAYS or part.strip().endswith("-"):
            raise UsageError(
                f"the days {words!r} cannot be read; expected days and ranges such as mon-fri or sat,sun, of "
                f"{', '.join(DAYS)}"
            )
        begin = DAYS.index(first)
        length = (DAYS.index(last or first) - begin) % len(DAYS)
        chosen.update(DAYS[(begin + step) % len(DAYS)] for step in range(length + 1))
    return tuple(day for day in DAYS if day in chosen)
