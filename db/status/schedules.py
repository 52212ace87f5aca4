"""Facts about schedules: when each is due, when it last went well, and whether it waits for a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_HEALTH = text("""
SELECT schedule_id, kind, held_reason, last_result,
       coalesce(last_ended_at > coalesce(last_success_at, '-infinity'), false) AS has_failed,
       cast(extract(epoch FROM next_at) AS float8) AS next_epoch,
       cast(extract(epoch FROM last_success_at) AS float8) AS success_epoch,
       cast(extract(epoch FROM now() - last_success_at) AS float8) AS success_seconds,
       cast(extract(epoch FROM now() - next_at) AS float8) AS late_seconds
FROM schedule
WHERE enabled
ORDER BY schedule_id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleHealth:
    """An enabled schedule."""

    schedule_id: int
    kind: str
    held_reason: str | None
    """Why the release was not activated after a reprocessing."""
    last_result: str | None
    has_failed: bool
    """Whether its last run failed."""
    next_epoch: float
    """When it is due next, in Unix time."""
    success_epoch: float | None
    """When a run last ended well, in Unix time."""
    success_seconds: float | None
    """Time since then."""
    late_seconds: float
    """Time since it is due; negative before."""


def read_schedule_health(session: Session) -> list[ScheduleHealth]:
    """Return the enabled schedules by number.

    Args:
        session: an open session.
    """
    return [ScheduleHealth(**row) for row in session.execute(_HEALTH).mappings()]
