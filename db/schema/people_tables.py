"""The tables of identity: people, corrections of users, and proposals of regrouping."""

from datetime import datetime
from decimal import Decimal
from typing import Literal, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Sequence,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.base import SCHEMA, Base, Count, Created, Embedding, JsonObject, Real, RowId, one_of

CorrectionKind = Literal["name", "merge", "split", "not"]
PairAnswerKind = Literal["same", "different", "skipped"]
ProposalState = Literal["open", "applied", "discarded"]

# Numbers the changes of people, so that a process that holds them in memory reads newer ones only.
PERSON_REVISION = Sequence("person_revision", schema=SCHEMA, metadata=Base.metadata)


class Person(Base):
    """An identity cluster, with its name; the same under all trunks."""

    __tablename__ = "person"
    __table_args__ = (
        Index("ix_person_named", "person_id", postgresql_where=text("name IS NOT NULL")),
        Index("ix_person_hidden", "person_id", postgresql_where=text("hidden_at IS NOT NULL")),
        Index("ix_person_correction_id", "correction_id", postgresql_where=text("correction_id IS NOT NULL")),
    )

    person_id: Mapped[RowId]
    name: Mapped[str | None]
    created_at: Mapped[Created]
    # When and by whom it was hidden from lists of the page; null while it is shown.
    hidden_at: Mapped[datetime | None]
    hidden_by: Mapped[str | None]
    # The correction that created it; undoing the correction deletes it.
    correction_id: Mapped[int | None] = mapped_column(ForeignKey("facet.correction.correction_id", ondelete="SET NULL"))


class PersonEmbedding(Base):
    """A person in the gallery of a trunk: the sum of the embeddings of its appearances."""

    __tablename__ = "person_embedding"
    __table_args__ = (Index("ix_person_embedding_revision", "trunk_id", "revision"),)

    person_id: Mapped[int] = mapped_column(
        ForeignKey("facet.person.person_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    trunk_id: Mapped[int] = mapped_column(
        SmallInteger, ForeignKey("facet.layer.layer_id"), primary_key=True, autoincrement=False
    )
    # Weighted sum; null while revision is 0, before the first sum.
    embedding_sum: Mapped[Embedding | None]
    embedding_weight: Mapped[Real] = mapped_column(server_default=text("0"))
    is_good: Mapped[bool] = mapped_column(server_default=text("false"))
    revision: Mapped[int] = mapped_column(server_default=text("0"))


class PersonTotal(Base):
    """The totals of a person over its appearances under a trunk; maintained by ``db.schema.totals``."""

    __tablename__ = "person_total"
    # The orders in which the page lists people.
    __table_args__ = (
        Index("ix_person_total_appearances", "trunk_id", "appearance_count", "person_id"),
        Index("ix_person_total_seconds", "trunk_id", text("(screen_seconds::double precision)"), "person_id"),
    )

    person_id: Mapped[int] = mapped_column(
        ForeignKey("facet.person.person_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    trunk_id: Mapped[int] = mapped_column(
        SmallInteger, ForeignKey("facet.layer.layer_id"), primary_key=True, autoincrement=False
    )
    appearance_count: Mapped[int]
    media_count: Mapped[int]
    face_count: Mapped[int]
    screen_seconds: Mapped[Decimal]
    best_quality: Mapped[Real | None]
    best_appearance_id: Mapped[int | None]
    best_face_id: Mapped[int | None]
    # {reading_id: mean or elected label} of ``person_reading``, so that a list of people joins nothing.
    answers: Mapped[JsonObject]


class PersonReading(Base):
    """The mean or the elected label of a person under one reading, over its appearances; with the totals."""

    __tablename__ = "person_reading"

    person_id: Mapped[int] = mapped_column(
        ForeignKey("facet.person.person_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    reading_id: Mapped[int] = mapped_column(
        SmallInteger, ForeignKey("facet.layer.layer_id"), primary_key=True, autoincrement=False
    )
    # Of ages: sums of age x weight and of weight, over appearances with an age.
    value_sum: Mapped[Decimal | None]
    value_weight: Mapped[Decimal | None]
    # Of labels: the one with the most votes, and the votes of each as {label: sum}.
    label: Mapped[str | None]
    votes: Mapped[JsonObject]


# Written by triggers: people that are not counted yet under a trunk. With an appearance that was added to the person;
# null where appearances were lost or changed. With a reading where only the answer of that reading was added, lost or
# changed. No key: two transactions that note one person must not wait for each other.
PERSON_CHANGE = Table(
    "person_change",
    Base.metadata,
    Column("person_id", BigInteger, nullable=False),
    Column("trunk_id", SmallInteger, nullable=False),
    Column("appearance_id", BigInteger),
    Column("reading_id", SmallInteger),
)


class MergeCandidate(Base):
    """Two people whose embeddings became as similar as those of one: a suggestion to merge them."""

    __tablename__ = "person_alike"
    __table_args__ = (
        CheckConstraint("first_person_id < second_person_id", "order"),
        Index("ix_person_alike_second_person_id", "second_person_id"),
    )

    first_person_id: Mapped[int] = mapped_column(
        ForeignKey("facet.person.person_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    second_person_id: Mapped[int] = mapped_column(
        ForeignKey("facet.person.person_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    trunk_id: Mapped[int] = mapped_column(
        SmallInteger, ForeignKey("facet.layer.layer_id"), primary_key=True, autoincrement=False
    )
    noticed_at: Mapped[Created]


class Correction(Base):
    """A statement of a user about people, with time and reason; it holds until it is undone."""

    __tablename__ = "correction"
    __table_args__ = (
        CheckConstraint(one_of("kind", get_args(CorrectionKind)), "kind"),
        CheckConstraint("kind <> 'name' OR name IS NOT NULL", "name"),
        Index("ix_correction_release_id", "release_id"),
    )

    correction_id: Mapped[RowId]
    release_id: Mapped[int] = mapped_column(ForeignKey("facet.release.release_id"))
    kind: Mapped[CorrectionKind] = mapped_column(Text)
    # The new name of the person of side 0; of a merge, null where neither person had one; of a not, the one it keeps.
    name: Mapped[str | None]
    reason: Mapped[str | None]
    # All people that it changed, its subject first.
    people: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    created_at: Mapped[Created]
    undone_at: Mapped[datetime | None]
    undo_reason: Mapped[str | None]
    # Names of the users; null in rows of earlier versions.
    made_by: Mapped[str | None]
    undone_by: Mapped[str | None]


class PairAnswer(Base):
    """The answer of a user to the question whether two merge candidates are one person."""

    __tablename__ = "pair_answer"
    __table_args__ = (
        CheckConstraint("first_person_id < second_person_id", "order"),
        CheckConstraint(one_of("answer", get_args(PairAnswerKind)), "answer"),
        CheckConstraint("(answer = 'skipped') = (correction_id IS NULL)", "correction"),
        Index("ix_pair_answer_second_person_id", "second_person_id"),
        Index("ix_pair_answer_correction_id", "correction_id"),
    )

    first_person_id: Mapped[int] = mapped_column(
        ForeignKey("facet.person.person_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    second_person_id: Mapped[int] = mapped_column(
        ForeignKey("facet.person.person_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    answer: Mapped[PairAnswerKind] = mapped_column(Text)
    # The correction that the answer led to; once it is undone, the question is open again.
    correction_id: Mapped[int | None] = mapped_column(ForeignKey("facet.correction.correction_id", ondelete="CASCADE"))
    made_by: Mapped[str | None]
    created_at: Mapped[Created]


class CorrectionAnchor(Base):
    """A place in a file that a correction refers to: it is found again after the file was analysed again."""

    __tablename__ = "correction_anchor"
    __table_args__ = (
        CheckConstraint("side IN (0, 1)", "side"),
        Index("ix_correction_anchor_media_id", "media_id"),
    )

    correction_id: Mapped[int] = mapped_column(
        ForeignKey("facet.correction.correction_id", ondelete="CASCADE"), primary_key=True
    )
    anchor_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # 0: the subject of the correction; 1: the rest of the person, from which side 0 is separated.
    side: Mapped[int] = mapped_column(SmallInteger)
    media_id: Mapped[int] = mapped_column(ForeignKey("facet.media_file.media_id", ondelete="CASCADE"))
    at_seconds: Mapped[float]
    x1: Mapped[Real]
    y1: Mapped[Real]
    x2: Mapped[Real]
    y2: Mapped[Real]
    # The values at that time. No foreign keys: the place outlives them.
    appearance_id: Mapped[int]
    from_person_id: Mapped[int]
    to_person_id: Mapped[int]


class RegroupProposal(Base):
    """A regrouping that would change so much that a user has to accept it first."""

    __tablename__ = "regroup_proposal"
    __table_args__ = (
        CheckConstraint(one_of("state", get_args(ProposalState)), "state"),
        Index("uq_regroup_proposal_open", "trunk_id", unique=True, postgresql_where=text("state = 'open'")),
    )

    proposal_id: Mapped[RowId]
    trunk_id: Mapped[int] = mapped_column(SmallInteger, ForeignKey("facet.layer.layer_id"))
    state: Mapped[ProposalState] = mapped_column(Text, server_default=text("'open'"))
    reason: Mapped[str]
    created_at: Mapped[Created]
    settled_at: Mapped[datetime | None]
    # Hash of all assignments when it was computed, and the last appearance then: both show whether it is outdated.
    fingerprint: Mapped[str]
    last_appearance_id: Mapped[int]
    appearance_count: Mapped[Count]
    changed_count: Mapped[Count]
    people_before: Mapped[Count]
    people_after: Mapped[Count]


class RegroupChange(Base):
    """An appearance that would change its person."""

    __tablename__ = "regroup_change"
    __table_args__ = (Index("ix_regroup_change_appearance_id", "appearance_id"),)

    proposal_id: Mapped[int] = mapped_column(
        ForeignKey("facet.regroup_proposal.proposal_id", ondelete="CASCADE"), primary_key=True
    )
    appearance_id: Mapped[int] = mapped_column(
        ForeignKey("facet.appearance.appearance_id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    from_person_id: Mapped[int]
    # -1 for a new person; then the next column numbers the new people, and is -1 otherwise.
    to_person_id: Mapped[int]
    newcomer: Mapped[int]
