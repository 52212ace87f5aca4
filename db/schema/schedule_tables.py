"""The table of schedules: when people are regrouped, due files are erased and archives are reprocessed."""

from datetime import datetime, time
from typing import Literal, get_args

from sqlalchemy import CheckConstraint, Integer, Text, Time, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, Count, Created, JsonObject, RowId, one_of

ScheduleKind = Literal["reprocess", "regroup", "retention"]


class Schedule(Base):
    """Work that comes again: its times, and how it last went. All times are of the database's clock."""

    __tablename__ = "schedule"
    __table_args__ = (
        CheckConstraint(one_of("kind", get_args(ScheduleKind)), "kind"),
        CheckConstraint("num_nonnulls(cron, every_seconds, window_from) = 1", "times"),
        CheckConstraint("num_nonnulls(window_from, window_to, days) IN (0, 3)", "window"),
        CheckConstraint("every_seconds > 0", "every_seconds"),
    )

    schedule_id: Mapped[RowId]
    kind: Mapped[ScheduleKind] = mapped_column(Text)
    # Of a reprocessing: release, heads and what follows it.
    options: Mapped[JsonObject]
    cron: Mapped[str | None]
    every_seconds: Mapped[int | None] = mapped_column(Integer)
    # By the clock of the time zone; whole days where both are equal.
    window_from: Mapped[time | None] = mapped_column(Time)
    window_to: Mapped[time | None] = mapped_column(Time)
    days: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    time_zone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    # Made by the program. A schedule of the same kind that a user adds takes its place.
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[Created]
    created_by: Mapped[str]
    # It is due from then on. While a run is tried again this is the time of the next attempt.
    next_at: Mapped[Created]
    # Attempts at the run that is due, ended ones included; 0 when it is done.
    attempts: Mapped[Count]
    # The window was open when it was last looked at.
    is_open: Mapped[bool] = mapped_column(server_default=text("false"))
    last_due_at: Mapped[datetime | None]
    last_started_at: Mapped[datetime | None]
    last_ended_at: Mapped[datetime | None]
    last_success_at: Mapped[datetime | None]
    # Of a reprocessing: its latest job, whether what follows the job is still to come, and when that was done.
    last_job_id: Mapped[int | None]
    job_open: Mapped[bool] = mapped_column(server_default=text("false"))
    concluded_at: Mapped[datetime | None]
    # When its window paused that job; another time in the row of the job means that a user paused it.
    paused_at: Mapped[datetime | None]
    last_release_id: Mapped[int | None]
    last_result: Mapped[str | None]
    # Why the step that follows a reprocessing was not taken.
    held_reason: Mapped[str | None]
