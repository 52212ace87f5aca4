"""When a schedule is due: at the times of a cron expression, after a period, or while a window is open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

from worker.errors import UsageError
from worker.schedules.windows import MIDNIGHT, Window, parse_days, parse_window

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_EVERY_SECONDS = 30
"""Upkeep looks that often."""
MAX_EVERY_SECONDS = 366 * 86_400
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
CRON_FIELDS = 5

_EVERY = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhd])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The times of a schedule; one of ``cron``, ``every_seconds`` and ``window`` is set."""

    cron: str | None = None
    every_seconds: int | None = None
    window: Window | None = None
    zone: str = "UTC"
    """IANA time zone of cron expression and window."""

    def next_after(self, now: datetime) -> datetime:
        """Return the first due time after a moment, in UTC; of a window its next opening."""
        if self.every_seconds is not None:
            return now + timedelta(seconds=self.every_seconds)
        if self.window is not None:
            return self.window.next_opening(now, ZoneInfo(self.zone))
        return next(_cron_times(self.cron or "", now.astimezone(ZoneInfo(self.zone)))).astimezone(UTC)

    def opening(self, now: datetime) -> datetime | None:
        """Return when the window opened that is open at a moment; None while it is closed, or where there is none."""
        return None if self.window is None else self.window.opening(now, ZoneInfo(self.zone))

    def describe(self) -> str:
        """Return the times in one line."""
        if self.every_seconds is not None:
            return f"every {_span(self.every_seconds)}"
        words = f"cron {self.cron}" if self.window is None else self.window.describe()
        return f"{words} {self.zone}"


def _cron_times(expression: str, after: datetime) -> Iterator[datetime]:
    from cronsim import CronSim  # noqa: PLC0415 - of all schedules, only these need it

    return CronSim(expression, after)


def _span(seconds: int) -> str:
    unit = next(name for name, length in reversed(UNITS.items()) if seconds % length == 0)
    return f"{seconds // UNITS[unit]}{unit}"


def parse_times(
    *,
    cron: str | None = None,
    every: str | None = None,
    window: str | None = None,
    days: str | None = None,
    zone: str = "UTC",
) -> Times:
    """Return the times that options of a command state.

    Raises:
        UsageError: an option cannot be read, or none or several state the times.
    """
    ranged = window is not None or days is not None
    if sum((cron is not None, every is not None, ranged)) != 1:
        raise UsageError("expected one of a period (--every 24h), a cron expression (--cron '0 3 * * *') and a window")
    parse_zone(zone)
    if cron is not None:
        return Times(cron=parse_cron(cron), zone=zone)
    if every is not None:
        return Times(every_seconds=parse_every(every))
    opens, closes = (MIDNIGHT, MIDNIGHT) if window is None else parse_window(window)
    return Times(window=Window(opens=opens, closes=closes, **_days(days)), zone=zone)


def _days(words: str | None) -> dict[str, tuple[str, ...]]:
    return {} if words is None else {"days": parse_days(words)}


def parse_zone(name: str) -> str:
    """Return the name of a time zone.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in available_timezones():
        raise UsageError(f"there is no time zone {name!r}; expected a name such as Europe/Berlin or UTC")
    return name


def parse_cron(expression: str) -> str:
    """Return a cron expression, its fields separated by single spaces.

    Raises:
        UsageError: it is none, or no day fits it.
    """
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - see _cron_times

    fields = expression.split()
    asked = f"the cron expression {expression!r}"
    wanted = "minute, hour, day of the month, month and day of the week, such as '0 3 * * *'"
    if len(fields) != CRON_FIELDS:
        raise UsageError(f"{asked} has {len(fields)} fields, expected {CRON_FIELDS}: {wanted}")
    try:
        next(CronSim(" ".join(fields), datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as err:
        raise UsageError(f"{asked} cannot be used ({str(err) or 'no day fits it'}); expected {wanted}") from None
    return " ".join(fields)


def parse_every(words: str) -> int:
    """Return the seconds of a period such as ``24h``.

    Raises:
        UsageError: it cannot be read, or is too short or too long.
    """
    found = _EVERY.fullmatch(words.strip().lower())
    seconds = 0 if found is None else round(float(found[1]) * UNITS[found[2]])
    if not MIN_EVERY_SECONDS <= seconds <= MAX_EVERY_SECONDS:
        raise UsageError(
            f"the period {words!r} cannot be used; expected a number with s, m, h or d, such as 24h, from "
            f"{MIN_EVERY_SECONDS} seconds to a year"
        )
    return seconds
