"""The table of units of work: what workers lease."""

from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, Count, Json, RowId, one_of

if TYPE_CHECKING:
    from db.schema.tables import Analysis

UnitState = Literal["pending", "leased", "done", "rejected", "quarantined", "cancelled"]
UnitStage = Literal["analyse", "finish", "reprocess"]
ReprocessWay = Literal["reading", "embedding", "crops", "file", "appearances", "joining", "people"]

UNIT_STATES: tuple[str, ...] = get_args(UnitState)


class Unit(Base):
    """A piece of work that is leased: an image, a range of a video, the finish of an analysis, a batch of faces."""

    __tablename__ = "unit"
    __table_args__ = (
        UniqueConstraint("analysis_id", "ordinal"),
        # Units that no worker began, in their order; the release first, since a worker serves one.
        Index(
            "ix_unit_lease",
            "release_id",
            text("priority DESC"),
            "turn",
            "unit_id",
            postgresql_where=text("state = 'pending' AND attempts = 0 AND stage <> 'reprocess' AND NOT shelved"),
        ),
        # Those that wait for paused jobs alone: they are in none of the indexes that workers read.
        Index("ix_unit_shelved", "release_id", text("priority DESC"), "turn", postgresql_where=text("shelved")),
        # The few that a worker holds or held: suspects and lost leases are found among a million that wait.
        Index(
            "ix_unit_tried",
            "release_id",
            text("priority DESC"),
            "turn",
            "unit_id",
            postgresql_where=text("state IN ('pending', 'leased') AND attempts > 0 AND not_before IS NULL"),
        ),
        # Suspects that rest until their next attempt.
        Index(
            "ix_unit_resting",
            "release_id",
            "not_before",
            postgresql_where=text(
                "state = 'pending' AND attempts > 0 AND stage <> 'reprocess' AND not_before IS NOT NULL"
            ),
        ),
        # Finds analyses whose last unit ended before the analysis did.
        Index("ix_unit_quarantined", "release_id", "analysis_id", postgresql_where=text("state = 'quarantined'")),
        Index("ix_unit_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        # Batches of reprocess jobs, which workers of any release take, in their order; and those of one job.
        Index(
            "ix_unit_reprocess",
            text("priority DESC"),
            "turn",
            "unit_id",
            postgresql_where=text("state IN ('pending', 'leased') AND stage = 'reprocess' AND NOT shelved"),
        ),
        Index("ix_unit_job_id", "job_id", postgresql_where=text("job_id IS NOT NULL")),
        CheckConstraint(one_of("state", UNIT_STATES), "state"),
        CheckConstraint("state <> 'leased' OR (owner IS NOT NULL AND lease_until IS NOT NULL)", "lease"),
        CheckConstraint("state <> 'leased' OR not_before IS NULL", "rest"),
        CheckConstraint("NOT shelved OR (state = 'pending' AND attempts = 0)", "shelved"),
        CheckConstraint("end_seconds > start_seconds", "range"),
        CheckConstraint(one_of("stage", get_args(UnitStage)), "stage"),
        CheckConstraint(one_of("way", get_args(ReprocessWay)), "way"),
        CheckConstraint(
            "CASE WHEN stage = 'reprocess' THEN analysis_id IS NULL AND job_id IS NOT NULL AND way IS NOT NULL"
            " AND first_id <= last_id ELSE analysis_id IS NOT NULL AND job_id IS NULL END",
            "batch",
        ),
    )

    unit_id: Mapped[RowId]
    # Null for a batch of a reprocess job, whose rows belong to many analyses.
    analysis_id: Mapped[int | None] = mapped_column(ForeignKey("facet.analysis.analysis_id", ondelete="CASCADE"))
    # The release whose workers do it, and whose layers its rows belong to.
    release_id: Mapped[int] = mapped_column(ForeignKey("facet.release.release_id"))
    ordinal: Mapped[Count]
    # At most one is 'finish', created when the others have ended: it joins the faces of all of them to appearances.
    stage: Mapped[UnitStage] = mapped_column(Text, server_default=text("'analyse'"))
    start_seconds: Mapped[float | None]
    end_seconds: Mapped[float | None]
    state: Mapped[UnitState] = mapped_column(Text, server_default=text("'pending'"))
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # Its virtual time: frames of its job before it, from the virtual time of others at submission; lower goes first.
    turn: Mapped[int] = mapped_column(server_default=text("0"))
    # Whether it waits for paused jobs alone; set after the pause, so others of them may be false.
    shelved: Mapped[bool] = mapped_column(server_default=text("false"))
    attempts: Mapped[Count]
    token: Mapped[int] = mapped_column(server_default=text("0"))
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    # Until then it rests; null in a unit that may be leased, and in one that is.
    not_before: Mapped[datetime | None]
    last_error: Mapped[str | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    frame_count: Mapped[Count]
    face_count: Mapped[Count]
    stage_seconds: Mapped[Json | None]
    # Parts of the file that were not analysed, and results that are doubtful.
    notes: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    # Of a batch: its job, how its rows are computed, the tasks that they lack, and the range of their numbers (faces,
    # appearances or analyses). Where the job is limited to some of them, their numbers.
    job_id: Mapped[int | None] = mapped_column(ForeignKey("facet.job.job_id", ondelete="CASCADE"))
    way: Mapped[ReprocessWay | None] = mapped_column(Text)
    tasks: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    first_id: Mapped[int | None]
    last_id: Mapped[int | None]
    ids: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))

    analysis: Mapped["Analysis | None"] = relationship(back_populates="units")
