"""Releases, and the layers that they choose.

A release is a choice of layers, each decided by the one before it: a *finder* (detector, policies, alignment), a
*trunk*, for each task a *head* (its branch), and a *reading* of the head's scores (temperature, thresholds,
abstention). Derived rows name the layer that decided them, so that two releases with the same layer share its rows.
"""

from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.base import Base, Created, Json, JsonObject, RowId, one_of

LayerKind = Literal["finder", "trunk", "head", "reading"]
HistoryAction = Literal["register", "activate", "rollback", "retire"]


class Layer(Base):
    """A part of a release that decides rows; equal in two releases, they share its rows."""

    __tablename__ = "layer"
    __table_args__ = (
        CheckConstraint(one_of("kind", get_args(LayerKind)), "kind"),
        CheckConstraint("(kind = 'finder') = (parent_id IS NULL)", "parent"),
        CheckConstraint("(kind IN ('head', 'reading')) = (task IS NOT NULL)", "task"),
        CheckConstraint("(kind = 'head') = (labels IS NOT NULL)", "labels"),
        Index("ix_layer_parent_id", "parent_id"),
    )

    # Two bytes: it stands in every derived row.
    layer_id: Mapped[int] = mapped_column(SmallInteger, Identity(always=False), primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))
    kind: Mapped[LayerKind] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(unique=True)
    # Of heads and readings: gender, age, ...
    task: Mapped[str | None]
    # Of heads: the names of the outputs, in their order.
    labels: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    # Its entry of the manifest: of a reading kind, temperature, abstain and thresholds.
    spec: Mapped[JsonObject]
    created_at: Mapped[Created]


class Release(Base):
    """A model release: a choice of layers."""

    __tablename__ = "release"
    __table_args__ = (Index("uq_release_active", "active", unique=True, postgresql_where=text("active")),)

    release_id: Mapped[RowId]
    fingerprint: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    weights_sha256: Mapped[str]
    code_version: Mapped[str]
    created_at: Mapped[Created]
    metrics: Mapped[JsonObject]
    manifest: Mapped[JsonObject]
    active: Mapped[bool] = mapped_column(server_default=text("false"))
    # 'candidate': the release that is prepared to become the active one.
    alias: Mapped[str | None] = mapped_column(unique=True)
    finder_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))
    trunk_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))
    # Set when it was retired: no worker serves it, and its results are refused.
    retired_at: Mapped[datetime | None]
    # When upkeep will retire it, unless it is activated before.
    retire_at: Mapped[datetime | None]
    # Of a retired one: its layers that no other release had, the step and the place that their removal has reached, and
    # the rows that were removed, by table.
    retirement: Mapped[Json | None]


class ReleaseReading(Base):
    """The head and the reading that a release has of a task."""

    __tablename__ = "release_reading"
    __table_args__ = (Index("ix_release_reading_reading_id", "reading_id"),)

    release_id: Mapped[int] = mapped_column(
        ForeignKey("facet.release.release_id", ondelete="CASCADE"), primary_key=True
    )
    task: Mapped[str] = mapped_column(primary_key=True)
    head_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))
    reading_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))


class ReleaseHistory(Base):
    """A change of what the views show, or of what is stored: who, when, why."""

    __tablename__ = "release_history"
    __table_args__ = (CheckConstraint(one_of("action", get_args(HistoryAction)), "action"),)

    history_id: Mapped[RowId]
    at: Mapped[Created]
    who: Mapped[str]
    action: Mapped[HistoryAction] = mapped_column(Text)
    release_id: Mapped[int] = mapped_column(ForeignKey("facet.release.release_id"))
    # The release that was active before.
    from_release_id: Mapped[int | None] = mapped_column(ForeignKey("facet.release.release_id"))
    reason: Mapped[str | None]
    # The checks of the gate with their figures.
    gate: Mapped[Json | None]
    forced: Mapped[bool] = mapped_column(server_default=text("false"))


class TrunkState(Base):
    """State of identification under a trunk."""

    __tablename__ = "trunk_state"

    trunk_id: Mapped[int] = mapped_column(
        SmallInteger, ForeignKey("facet.layer.layer_id"), primary_key=True, autoincrement=False
    )
    # The revision of the last erasure of people: a process that holds older people in memory reads all of them again.
    people_erased: Mapped[int] = mapped_column(server_default=text("0"))
    # Analyses that are being identified; a worker that died meanwhile leaves them here.
    identifying: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))


class IdentifyFailure(Base):
    """An analysis whose appearances under a trunk could not be given people; deleted when they have them."""

    __tablename__ = "identify_failure"
    __table_args__ = (Index("ix_identify_failure_trunk_id", "trunk_id"),)

    analysis_id: Mapped[int] = mapped_column(
        ForeignKey("facet.analysis.analysis_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    trunk_id: Mapped[int] = mapped_column(
        SmallInteger, ForeignKey("facet.layer.layer_id"), primary_key=True, autoincrement=False
    )
    # Failed attempts since the last success, and the error of the last one.
    attempts: Mapped[int] = mapped_column(Integer)
    error: Mapped[str]
