"""The tables of upkeep: files to remove, erasures to retry, crops to compare with their rows."""

from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import CheckConstraint, ForeignKey, Integer, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, Count, Created, RowId, one_of

RemovalKind = Literal["crops", "strip", "staged"]


class UpkeepRun(Base):
    """The last end of a task of upkeep, by the database's clock, since clocks of hosts may differ."""

    __tablename__ = "upkeep_run"

    name: Mapped[str] = mapped_column(primary_key=True)
    ended_at: Mapped[Created]
    # Count of its ends.
    runs: Mapped[int] = mapped_column(server_default=text("1"))


class FileRemoval(Base):
    """A file that an erasure has to remove, noted in its transaction: a crash in between loses none."""

    __tablename__ = "file_removal"
    __table_args__ = (
        CheckConstraint(one_of("kind", get_args(RemovalKind)), "kind"),
        CheckConstraint("(kind = 'strip') = (crops IS NOT NULL)", "crops"),
    )

    removal_id: Mapped[RowId]
    kind: Mapped[RemovalKind] = mapped_column(Text)
    # Of crops: a folder of the crop store, or a strip of it. Of a staged copy: its path without the extension.
    path: Mapped[str]
    # Crops of a strip that are blanked; the others stay where they are.
    crops: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    # Rows named strips there when it was written: a store without any folder counts as not mounted.
    is_named: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[Created]
    # A worker that held the file may write until then, so removal is repeated.
    again_until: Mapped[datetime | None]
    # Failed attempts, the error of the last one, and the time of the next one.
    attempts: Mapped[Count]
    not_before: Mapped[datetime | None]
    last_error: Mapped[str | None]


class ErasureFailure(Base):
    """A file that is due for erasure and whose erasure failed; it is skipped until its next attempt is due."""

    __tablename__ = "erasure_failure"

    media_id: Mapped[int] = mapped_column(
        ForeignKey("facet.media_file.media_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    error: Mapped[str]
    failed_at: Mapped[Created]
    not_before: Mapped[datetime]


class CropCheck(Base):
    """An analysis that lost a person: its strips that no row names have to be found and removed."""

    __tablename__ = "crop_check"

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("facet.analysis.analysis_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    created_at: Mapped[Created]


class CropWalk(Base):
    """The progress of a walk through a crop store, and its findings."""

    __tablename__ = "crop_walk"

    url: Mapped[str] = mapped_column(primary_key=True)
    # The last folder that was read, ``ab/<sha256>``; empty at the start of a walk.
    position: Mapped[str] = mapped_column(server_default=text("''"))
    # Strips that no row names and no process was writing.
    removed: Mapped[int] = mapped_column(server_default=text("0"))
    # Strips of analyses that are missing in this database, and the first of them.
    strangers: Mapped[int] = mapped_column(server_default=text("0"))
    stranger: Mapped[str | None]
    began_at: Mapped[Created]
    # The end of the last complete walk.
    ended_at: Mapped[datetime | None]
