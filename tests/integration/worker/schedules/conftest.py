"""Schedules in a real database, under a clock that tests turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.engine import make_engine, session_factory
from worker.schedules.rows import RunOutcome, add_schedule, read_schedule
from worker.schedules.runs import run_due
from worker.schedules.times import parse_times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session, sessionmaker


@dataclass
class Plan:
    """Schedules, a clock and what was run."""

    sessions: sessionmaker[Session]
    now: datetime = datetime(2026, 3, 27, 12, tzinfo=UTC)
    ran: list[tuple[int, str]] = field(default_factory=list)
    outcome: RunOutcome = field(default_factory=lambda: RunOutcome(result="done"))

    def clock(self, _session: Session) -> datetime:
        return self.now

    def add(self, kind: str, options: dict[str, object] | None = None, **times: str) -> int:
        """Add a schedule as if it was added now."""
        with self.sessions.begin() as session:
            number, _ = add_schedule(session, kind, parse_times(**times), options or {}, "somebody", self.clock)
        return number

    def read(self, number: int):
        with self.sessions() as session:
            return read_schedule(session, number)

    def action(self, schedule):
        self.ran.append((schedule.schedule_id, self.now.strftime("%d %H:%M")))
        return self.outcome

    def pass_time(self, **span: float) -> None:
        """Turn the clock and run what is due."""
        self.now += timedelta(**span)
        run_due(self.sessions, dict.fromkeys(("regroup", "retention"), self.action), self.clock)


@pytest.fixture
def plan(clean_database: str) -> Iterator[Plan]:
    engine = make_engine(clean_database)
    yield Plan(session_factory(engine))
    engine.dispose()


@pytest.fixture
def database_now(plan: Plan):
    with plan.sessions() as session:
        return session.execute(text("SELECT clock_timestamp()")).scalar_one()
