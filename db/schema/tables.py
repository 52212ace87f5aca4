"""The base tables: media, the ledger (analyses, units) and results (faces and what follows from them).

Rows of results belong to the layer of a release that decided them (``db.schema.release_tables``): faces to a finder,
embeddings and appearances to a trunk, predictions to a reading. Releases that share a layer share its rows.

Submissions are in ``db.schema.job_tables``; people and their corrections are in ``db.schema.people_tables``;
notes of what upkeep has to do are in ``db.schema.upkeep_tables``.

Users never read these: the views of ``db.schema.views`` are the interface. Values and ranges are checked by the server,
so that no program, ours included, can store a state that the accounting does not know.
"""

from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.base import Base, Count, Created, HalfEmbedding, Json, Real, RowId, one_of
from db.schema.job_tables import Job, JobItem, ReprocessFace, ReprocessGap
from db.schema.people_tables import (
    Correction,
    CorrectionAnchor,
    MergeCandidate,
    PairAnswer,
    Person,
    PersonEmbedding,
    PersonReading,
    PersonTotal,
    RegroupChange,
    RegroupProposal,
)
from db.schema.release_tables import Layer, Release, ReleaseHistory, ReleaseReading, TrunkState
from db.schema.schedule_tables import Schedule
from db.schema.unit_table import Unit
from db.schema.upkeep_tables import CropCheck, CropWalk, ErasureFailure, FileRemoval, UpkeepRun

__all__ = (
    "Analysis", "Appearance", "AppearancePrediction", "Correction", "CorrectionAnchor", "CropCheck", "CropStrip",
    "CropWalk", "ErasureFailure", "Face", "FaceEmbedding", "FileRemoval", "Job", "JobItem", "Layer", "MediaFile",
    "MergeCandidate", "PairAnswer", "Person", "PersonEmbedding", "PersonReading", "PersonTotal", "Prediction",
    "RegroupChange", "RegroupProposal", "Release", "ReleaseHistory", "ReleaseReading", "ReprocessFace", "ReprocessGap",
    "SceneCut", "Schedule", "TrunkState", "Unit", "UpkeepRun",
)  # fmt: skip

MediaKind = Literal["image", "video"]
AnalysisState = Literal["pending", "done", "rejected", "quarantined", "cancelled"]

ANALYSIS_STATES: tuple[str, ...] = get_args(AnalysisState)


class MediaFile(Base):
    """A file, known by its bytes; one that was refused and never analysed has a reason."""

    __tablename__ = "media_file"
    __table_args__ = (
        CheckConstraint(one_of("kind", get_args(MediaKind)), "kind"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", "sha256"),
        CheckConstraint(
            "reason IS NOT NULL OR (sha256 IS NOT NULL AND location IS NOT NULL AND kind IS NOT NULL)",
            "complete_or_refused",
        ),
        CheckConstraint("orientation BETWEEN 1 AND 8", "orientation"),
        Index("ix_media_file_submitted_at", "submitted_at"),
        Index("ix_media_file_refused", "media_id", postgresql_where=text("reason IS NOT NULL")),
        # Files refused before are found again by their address; hashed, because it may be longer than an index takes.
        Index("ix_media_file_refused_uri", text("md5(uri)"), postgresql_where=text("sha256 IS NULL")),
    )

    media_id: Mapped[RowId]
    sha256: Mapped[str | None] = mapped_column(unique=True)
    uri: Mapped[str]
    location: Mapped[str | None]
    kind: Mapped[MediaKind | None] = mapped_column(Text)
    format: Mapped[str | None]
    byte_size: Mapped[int | None]
    stamp: Mapped[str | None]  # size, times and inode of the file when it was hashed; null: hash it again
    width: Mapped[int | None]
    height: Mapped[int | None]
    duration_seconds: Mapped[float | None]
    frames_per_second: Mapped[float | None]
    reason: Mapped[str | None]
    submitted_at: Mapped[Created]
    # A person in it was erased: the rows of the others stay, and the file is never analysed again.
    sealed_at: Mapped[datetime | None]
    # Metadata of the file, as its first analysis found it; tags holds the rest, and is null before.
    taken_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=False))  # by the clock of the camera
    camera: Mapped[str | None]
    latitude: Mapped[float | None]
    longitude: Mapped[float | None]
    title: Mapped[str | None]
    tags: Mapped[Json | None]
    orientation: Mapped[int | None] = mapped_column(SmallInteger)  # EXIF, of the stored first frame; null: not read

    analyses: Mapped[list["Analysis"]] = relationship(back_populates="media", passive_deletes=True)


class Analysis(Base):
    """A file under one finder and one sampling; finished when its last unit is."""

    __tablename__ = "analysis"
    __table_args__ = (
        UniqueConstraint("media_id", "finder_id", "sampling"),
        # Lets the row of an appearance prove with one foreign key that its two ids belong together.
        UniqueConstraint("analysis_id", "media_id"),
        Index("uq_analysis_current", "media_id", "finder_id", unique=True, postgresql_where=text("is_current")),
        Index("ix_analysis_unfinished", "analysis_id", postgresql_where=text("state = 'pending'")),
        Index("ix_analysis_failed", "finished_at", postgresql_where=text("state IN ('rejected', 'quarantined')")),
        Index(
            "ix_analysis_superseded",
            "finder_id",
            postgresql_where=text("state = 'done' AND NOT is_current AND NOT retired"),
        ),
        CheckConstraint(one_of("state", ANALYSIS_STATES), "state"),
        CheckConstraint("(state = 'pending') = (finished_at IS NULL)", "finished_at"),
        CheckConstraint("state NOT IN ('rejected', 'quarantined') OR reason IS NOT NULL", "reason"),
    )

    analysis_id: Mapped[RowId]
    media_id: Mapped[int] = mapped_column(ForeignKey("facet.media_file.media_id", ondelete="CASCADE"))
    finder_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"), index=True)
    sampling: Mapped[str]
    state: Mapped[AnalysisState] = mapped_column(Text, server_default=text("'pending'"))
    reason: Mapped[str | None]
    is_current: Mapped[bool] = mapped_column(server_default=text("false"))
    # Its appearances no longer count for their people, because another analysis of the file took its place.
    retired: Mapped[bool] = mapped_column(server_default=text("false"))
    frame_count: Mapped[Count]
    face_count: Mapped[Count]
    sample_interval_seconds: Mapped[float | None]
    submitted_at: Mapped[Created]
    finished_at: Mapped[datetime | None]

    media: Mapped[MediaFile] = relationship(back_populates="analyses")
    units: Mapped[list["Unit"]] = relationship(back_populates="analysis", passive_deletes=True)


class SceneCut(Base):
    """The first sampled frame of a new shot."""

    __tablename__ = "scene_cut"
    __table_args__ = (Index("ix_scene_cut_analysis_id", "analysis_id", "at_seconds"),)

    unit_id: Mapped[int] = mapped_column(ForeignKey("facet.unit.unit_id", ondelete="CASCADE"), primary_key=True)
    at_seconds: Mapped[float] = mapped_column(primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("facet.analysis.analysis_id", ondelete="CASCADE"))


class CropStrip(Base):
    """A file of the crop store with aligned crops of one unit."""

    __tablename__ = "crop_strip"
    __table_args__ = (Index("ix_crop_strip_uri", "uri"),)

    unit_id: Mapped[int] = mapped_column(ForeignKey("facet.unit.unit_id", ondelete="CASCADE"), primary_key=True)
    strip_no: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    uri: Mapped[str]


class Face(Base):
    """A detected face in a frame, kept or dropped with its reason: a row of a finder."""

    __tablename__ = "face"
    __table_args__ = (
        UniqueConstraint("analysis_id", "frame_index", "face_no"),
        Index("ix_face_unit_id", "unit_id"),
        Index("ix_face_dropped_reason", "dropped_reason", postgresql_where=text("dropped_reason IS NOT NULL")),
        CheckConstraint("x2 >= x1 AND y2 >= y1", "box"),
        CheckConstraint("octet_length(landmarks) = 20", "landmarks"),
        # NaN sorts above every number, so these keep it out as well.
        CheckConstraint("detection_score BETWEEN 0 AND 1", "detection_score"),
        CheckConstraint("quality BETWEEN 0 AND 1", "quality"),
        CheckConstraint("(strip_no IS NULL) = (crop_index IS NULL)", "crop"),
    )

    # Columns from long to short: PostgreSQL pads a short one before a long one.
    face_id: Mapped[RowId]
    analysis_id: Mapped[int] = mapped_column(ForeignKey("facet.analysis.analysis_id", ondelete="CASCADE"))
    unit_id: Mapped[int] = mapped_column(ForeignKey("facet.unit.unit_id", ondelete="CASCADE"))
    at_seconds: Mapped[float] = mapped_column(server_default=text("0"))
    frame_index: Mapped[Count]
    # Time for which its frame stays on screen: until the next sampled one, or to the end. Null in older rows.
    hold_seconds: Mapped[Real | None]
    x1: Mapped[Real]
    y1: Mapped[Real]
    x2: Mapped[Real]
    y2: Mapped[Real]
    detection_score: Mapped[Real]
    quality: Mapped[Real]
    # Of the frame as it is displayed: upright, with square pixels. Null in rows older than these columns.
    frame_width: Mapped[int | None] = mapped_column(Integer)
    frame_height: Mapped[int | None] = mapped_column(Integer)
    # The strip of its unit that holds its crop, and the place in it; null where no crop was kept. No foreign key: it
    # would need an index. A crop whose strip has no row is gone.
    strip_no: Mapped[int | None] = mapped_column(SmallInteger)
    crop_index: Mapped[int | None] = mapped_column(SmallInteger)
    face_no: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # x and y of five points as parts of the box, 16 bits each (db.bulk.codes).
    landmarks: Mapped[bytes]
    dropped_reason: Mapped[str | None]


class FaceEmbedding(Base):
    """The identity of a face under a trunk: its embedding, and the appearance that it belongs to.

    A dropped face has no embedding, and a row only where it belongs to an appearance.
    """

    __tablename__ = "face_embedding"
    __table_args__ = (
        # The appearance of a face is read from the key, without the embeddings.
        PrimaryKeyConstraint("face_id", "trunk_id", postgresql_include=["appearance_id"]),
        # Deferred: a unit may copy its faces and their appearances in either order.
        ForeignKeyConstraint(
            ["appearance_id"],
            ["facet.appearance.appearance_id"],
            ondelete="SET NULL",
            deferrable=True,
            initially="DEFERRED",
            use_alter=True,
        ),
        Index("ix_face_embedding_appearance_id", "appearance_id"),
        CheckConstraint("embedding IS NOT NULL OR appearance_id IS NOT NULL", "empty"),
    )

    face_id: Mapped[int] = mapped_column(ForeignKey("facet.face.face_id", ondelete="CASCADE"))
    trunk_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))
    appearance_id: Mapped[int | None]
    embedding: Mapped[HalfEmbedding | None]


class Prediction(Base):
    """The answer of one head for one face under one reading of its scores."""

    __tablename__ = "prediction"
    __table_args__ = (
        Index("ix_prediction_label", "reading_id", "label", postgresql_where=text("label IS NOT NULL")),
        CheckConstraint("confidence BETWEEN 0 AND 1", "confidence"),
    )

    face_id: Mapped[int] = mapped_column(ForeignKey("facet.face.face_id", ondelete="CASCADE"), primary_key=True)
    reading_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"), primary_key=True)
    confidence: Mapped[Real | None]
    value: Mapped[Real | None]
    low: Mapped[Real | None]
    high: Mapped[Real | None]
    label: Mapped[str | None]
    # What the head computed, before the reading, 16 bits a label (db.bulk.codes); null in a row that was read again
    # from the scores of another reading of the head.
    scores: Mapped[bytes | None]


class Appearance(Base):
    """A person in view, from when to when: a row of a trunk."""

    __tablename__ = "appearance"
    __table_args__ = (
        UniqueConstraint("analysis_id", "trunk_id", "ordinal"),
        ForeignKeyConstraint(
            ["analysis_id", "media_id"], ["facet.analysis.analysis_id", "facet.analysis.media_id"], ondelete="CASCADE"
        ),
        Index("ix_appearance_media_id", "media_id", "start_seconds"),
        Index("ix_appearance_person_id", "person_id"),
        Index("ix_appearance_best_face_id", "best_face_id"),
        Index(
            "ix_appearance_waiting",
            "trunk_id",
            "appearance_id",
            postgresql_where=text("person_id IS NULL AND embedding IS NOT NULL"),
        ),
        CheckConstraint("end_seconds >= start_seconds", "range"),
        CheckConstraint("face_count > 0", "face_count"),
    )

    appearance_id: Mapped[RowId]
    analysis_id: Mapped[int]
    media_id: Mapped[int]
    start_seconds: Mapped[float]
    end_seconds: Mapped[float]
    # Null in rows older than this column: then one sampling step is counted behind the last face.
    screen_seconds: Mapped[float | None]
    best_face_id: Mapped[int | None] = mapped_column(
        ForeignKey("facet.face.face_id", ondelete="SET NULL", deferrable=True, initially="DEFERRED")
    )
    person_id: Mapped[int | None] = mapped_column(ForeignKey("facet.person.person_id", ondelete="SET NULL"))
    trunk_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))
    ordinal: Mapped[Count]
    face_count: Mapped[Count]
    quality: Mapped[Real]
    embedding: Mapped[HalfEmbedding | None]


class AppearancePrediction(Base):
    """The answer of one head for an appearance under one reading, aggregated over its faces."""

    __tablename__ = "appearance_prediction"
    __table_args__ = (
        # The answers of one reading are read from the key, without those of the others.
        PrimaryKeyConstraint("reading_id", "appearance_id", postgresql_include=["label", "confidence", "value"]),
        Index("ix_appearance_prediction_appearance_id", "appearance_id"),
    )

    appearance_id: Mapped[int] = mapped_column(ForeignKey("facet.appearance.appearance_id", ondelete="CASCADE"))
    reading_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))
    confidence: Mapped[Real | None]
    value: Mapped[Real | None]
    low: Mapped[Real | None]
    high: Mapped[Real | None]
    # Estimates of it have statistics of their own (migration 0027).
    label: Mapped[str | None]
    # Of emotions: {label: share of the time in view}.
    shares: Mapped[Json | None] = mapped_column(JSONB)
    # Of attributes: mean probabilities, coded like the scores of a face.
    scores: Mapped[bytes | None]
