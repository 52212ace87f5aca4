"""Tables of submissions: jobs and their files."""

from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, Count, Created, JsonObject, RowId, one_of

SubmissionState = Literal["open", "ended", "broken"]
JobKind = Literal["submission", "reprocess"]
JobSpeed = Literal["low", "normal", "full"]


class Job(Base):
    """A submission of files, or the reprocessing of what a release lacks."""

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint("keep_days > 0", "keep_days"),
        CheckConstraint(one_of("submission", get_args(SubmissionState)), "submission"),
        CheckConstraint(one_of("kind", get_args(JobKind)), "kind"),
        CheckConstraint(one_of("speed", get_args(JobSpeed)), "speed"),
        CheckConstraint("(kind = 'reprocess') = (release_id IS NOT NULL)", "release"),
        # The few of which no unit is leased, and the few that fill in what a release lacks.
        Index("ix_job_paused", "job_id", postgresql_where=text("paused_at IS NOT NULL")),
        Index("ix_job_shelf_next", "job_id", postgresql_where=text("shelf_next IS NOT NULL")),
        Index("ix_job_reprocess", "job_id", postgresql_where=text("kind = 'reprocess' AND finished_at IS NULL")),
        Index("ix_job_kept", "job_id", postgresql_where=text("keep_days IS NOT NULL")),
    )

    job_id: Mapped[RowId]
    name: Mapped[str]
    submitted_at: Mapped[Created]
    options: Mapped[JsonObject]
    finished_at: Mapped[datetime | None]
    # Days from submission after which its files are erased, unless another job keeps them longer; null for never.
    keep_days: Mapped[int | None] = mapped_column(Integer)
    # Erased items, by the state that they had; a pending or cancelled one counts as rejected.
    erased_done: Mapped[Count]
    erased_rejected: Mapped[Count]
    erased_quarantined: Mapped[Count]
    cancelled_at: Mapped[datetime | None]
    # Whether all of its files were written; the default is the value of earlier programs.
    submission: Mapped[SubmissionState] = mapped_column(Text, server_default=text("'ended'"))
    # Time of the last write of its submission.
    written_at: Mapped[datetime | None]
    kind: Mapped[JobKind] = mapped_column(Text, server_default=text("'submission'"))
    # The release whose rows a reprocess job fills in; null for a submission.
    release_id: Mapped[int | None] = mapped_column(ForeignKey("facet.release.release_id"))
    # Set while none of its units is leased.
    paused_at: Mapped[datetime | None]
    # Of a job that was paused or resumed: the item from which on its units have to be shelved, or unshelved; null when
    # all are.
    shelf_next: Mapped[int | None]
    # The share of a worker's time that a reprocess job takes: a quarter, a half, all.
    speed: Mapped[JobSpeed] = mapped_column(Text, server_default=text("'full'"))

    items: Mapped[list["JobItem"]] = relationship(back_populates="job", passive_deletes=True)


class JobItem(Base):
    """One file of a submission; its state is that of its analysis, or 'rejected' where it was refused and has none."""

    __tablename__ = "job_item"
    __table_args__ = (
        Index("ix_job_item_media_id", "media_id"),
        Index("ix_job_item_analysis_id", "analysis_id"),
        Index("ix_job_item_refused", "job_id", postgresql_where=text("analysis_id IS NULL")),
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("facet.job.job_id", ondelete="CASCADE"), primary_key=True)
    item_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    uri: Mapped[str]
    media_id: Mapped[int] = mapped_column(ForeignKey("facet.media_file.media_id", ondelete="CASCADE"))
    # No cascade: an analysis that a job counts may be deleted only together with its file.
    analysis_id: Mapped[int | None] = mapped_column(ForeignKey("facet.analysis.analysis_id"))
    # The reason for which this submission refused the file; another one may analyse it.
    reason: Mapped[str | None]

    job: Mapped[Job] = relationship(back_populates="items")


class ReprocessFace(Base):
    """A face to which a reprocess job is limited; deleted when the job ends."""

    __tablename__ = "reprocess_face"

    job_id: Mapped[int] = mapped_column(ForeignKey("facet.job.job_id", ondelete="CASCADE"), primary_key=True)
    # No foreign key: it would need an index. A face that is gone is not found.
    face_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ReprocessGap(Base):
    """Faces of an analysis that a reprocess job cannot fill in, with the reason."""

    __tablename__ = "reprocess_gap"
    __table_args__ = (Index("ix_reprocess_gap_analysis_id", "analysis_id"),)

    job_id: Mapped[int] = mapped_column(ForeignKey("facet.job.job_id", ondelete="CASCADE"), primary_key=True)
    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("facet.analysis.analysis_id", ondelete="CASCADE"), primary_key=True
    )
    # As code: message.
    reason: Mapped[str] = mapped_column(primary_key=True)
    # 1 for a file that would have to be analysed again.
    face_count: Mapped[int]
