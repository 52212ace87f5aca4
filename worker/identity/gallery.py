"""The gallery: the people of a trunk, summed up in the database and held in memory by each worker that identifies.

A person is the same under all trunks. Its row of a trunk (``person_embedding``) keeps the weighted sum of the
embeddings of its appearances under that trunk. So a new appearance is compared with one vector for each person, and
never with an embedding of another trunk. Every change takes a new revision from a sequence. All changes are made under
one lock, so a worker that has read up to a revision finds later changes above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import text

from db.base import EMBEDDING_DIMENSION
from db.bulk.arrays import read_blocks, read_rows, write_rows
from worker.identity.grouping.assign import GalleryPeople

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import ColumnType

    Ids = NDArray[np.int64]

IDENTIFY_LOCK = 0x70656F70  # "peop": two workers that met the same new person at once would make two people of one

_SUMS: Mapping[str, ColumnType] = {
    "person_id": "bigint", "embedding_sum": "vector", "embedding_weight": "real", "is_good": "boolean",
}  # fmt: skip
_MEMBER_TYPES: Mapping[str, ColumnType] = {"person_id": "bigint", "quality": "real", "embedding": "vector"}
_MEMBERS = """
    SELECT s.person_id, s.quality, s.embedding::vector FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
    WHERE s.person_id = ANY(%(people)s) AND s.trunk_id = %(trunk_id)s AND a.is_current AND s.embedding IS NOT NULL
    ORDER BY s.appearance_id"""
_NEWER = (
    "SELECT person_id, embedding_sum, embedding_weight, is_good FROM facet.person_embedding "
    "WHERE trunk_id = %(trunk_id)s AND revision > %(revision)s"
)
_STAGE = """CREATE TEMPORARY TABLE IF NOT EXISTS person_sum (
    person_id bigint, embedding_sum vector, embedding_weight real, is_good boolean) ON COMMIT DELETE ROWS"""
# The join leaves out people who are gone: a sum may be written for one that an erasure deleted before.
_STORE = text("""
    INSERT INTO person_embedding (person_id, trunk_id, embedding_sum, embedding_weight, is_good, revision)
    SELECT s.person_id, :trunk_id, s.embedding_sum, s.embedding_weight, s.is_good, r.number
    FROM pg_temp.person_sum s JOIN person USING (person_id), (SELECT nextval('facet.person_revision') AS number) r
    ON CONFLICT (person_id, trunk_id) DO UPDATE SET embedding_sum = excluded.embedding_sum,
        embedding_weight = excluded.embedding_weight, is_good = excluded.is_good, revision = excluded.revision""")


def lock_people(session: Session) -> None:
    """Take the lock of people: no other transaction changes the person of an appearance until this one ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": IDENTIFY_LOCK})


def try_lock_people(session: Session) -> bool:
    """Take the lock of people if it is free; returns whether it was."""
    return bool(session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": IDENTIFY_LOCK}).scalar_one())


class Gallery:
    """The people of one trunk in memory, refreshed by their revisions."""

    def __init__(self, trunk_id: int) -> None:
        self.trunk_id = trunk_id
        self._revision = 0
        self._erased = 0
        self._count = 0
        self._rows: dict[int, int] = {}
        self._people = GalleryPeople.empty(EMBEDDING_DIMENSION)

    def forget(self) -> None:
        """Drop all people; the next call reads everything again."""
        self._revision, self._count, self._rows = 0, 0, {}
        self._people = GalleryPeople.empty(EMBEDDING_DIMENSION)

    def forget_erased(self, session: Session) -> None:
        """Drop all people if any was erased since the last call: memory must not outlive an erasure for long."""
        statement = text("SELECT people_erased FROM trunk_state WHERE trunk_id = :trunk_id")
        erased = int(session.execute(statement, {"trunk_id": self.trunk_id}).scalar() or 0)
        if erased > self._revision:
            self.forget()
        self._erased = erased

    def refresh(self, session: Session) -> GalleryPeople:
        """Read the changes since the last call; the caller holds the lock of people.

        Returns:
            All people, as views of the arrays held here: valid until the next call. A person without appearances is a
            zero vector, which resembles no other.
        """
        self.forget_erased(session)
        newest = max(_newest(session, self.trunk_id), self._erased)
        if newest > self._revision:
            bounds = {"trunk_id": self.trunk_id, "revision": self._revision}
            for block in read_blocks(session, _NEWER, _SUMS, bounds):
                self._take(block)
            self._revision = newest
        return self._people[: self._count]

    def find(self, person_ids: Ids) -> GalleryPeople:
        """Return those of some people that are in memory, in no particular order."""
        rows = [self._rows[person] for person in person_ids.tolist() if person in self._rows]
        return self._people[np.array(rows, np.int64)]

    def _take(self, block: NDArray[np.void]) -> None:
        """Add people to the arrays, or write new sums over those that are held."""
        rows = np.array([self._rows.get(person, -1) for person in block["person_id"].tolist()], np.int64)
        fresh = rows < 0
        rows[fresh] = self._count + np.arange(int(fresh.sum()))
        self._count += int(fresh.sum())
        self._rows.update(zip(block["person_id"][fresh].tolist(), rows[fresh].tolist(), strict=True))
        self._make_room()
        self._people.person[rows] = block["person_id"]
        self._people.sums[rows] = block["embedding_sum"]
        self._people.weights[rows] = block["embedding_weight"]
        self._people.good[rows] = block["is_good"]

    def _make_room(self) -> None:
        """Enlarge the arrays by half where they are full."""
        held = len(self._people)
        if self._count > held:
            room = max(self._count, held + held // 2) - held
            self._people = GalleryPeople.cat([self._people, unseen_people(np.zeros(room, np.int64))])


def _newest(session: Session, trunk_id: int) -> int:
    """Return the latest revision, after summing up people that an earlier version of the program made without sums."""
    own = {"trunk_id": trunk_id}
    bounds = text("SELECT coalesce(max(revision), 0), min(revision) FROM person_embedding WHERE trunk_id = :trunk_id")
    newest, oldest = session.execute(bounds, own).one()
    if oldest == 0:
        unsummed = text("SELECT person_id FROM person_embedding WHERE trunk_id = :trunk_id AND revision = 0")
        people = session.scalars(unsummed, own).all()
        refresh_people(session, trunk_id, np.array(people, np.int64))
        return _newest(session, trunk_id)
    return int(newest)


def refresh_people(session: Session, trunk_id: int, person_ids: Ids) -> None:
    """Sum up people again from their appearances, in the transaction that takes appearances from them.

    Args:
        session: an open session; the lock of people is taken, if it is not held already.
        trunk_id: trunk of the appearances; the sums of other trunks stay.
        person_ids: (P,) people whose appearances changed; repeated ids, -1 and people who are gone are ignored.
    """
    lock_people(session)
    wanted = np.unique(person_ids[person_ids >= 0])
    if not len(wanted):
        return
    members = read_rows(session, _MEMBERS, _MEMBER_TYPES, {"people": wanted.tolist(), "trunk_id": trunk_id})
    people = GalleryPeople.of(members["person_id"], members["embedding"], members["quality"])
    store_sums(session, trunk_id, GalleryPeople.cat([people, unseen_people(np.setdiff1d(wanted, people.person))]))


def unseen_people(person_ids: Ids) -> GalleryPeople:
    """Return people without an appearance: zero vectors, which resemble no other."""
    return GalleryPeople(
        person=person_ids,
        sums=np.zeros((len(person_ids), EMBEDDING_DIMENSION), np.float32),
        weights=np.zeros(len(person_ids), np.float32),
        good=np.zeros(len(person_ids), np.bool_),
    )


def sum_up(before: GalleryPeople, more: GalleryPeople) -> GalleryPeople:
    """Add two sums of each person; appearances of low quality count only where there are no good ones.

    Args:
        before: (P,) stored sums; people who are not in ``more`` are left out.
        more: (Q,) sums of new appearances.

    Returns:
        (Q,) in the order of ``more``.
    """
    sums, weights, good = more.sums.copy(), more.weights.copy(), more.good.copy()
    order = np.argsort(more.person)
    kept = before[np.isin(before.person, more.person)]
    rows = order[np.searchsorted(more.person[order], kept.person)]
    seen = kept.weights > 0
    same, better = seen & (kept.good == good[rows]), seen & kept.good & ~good[rows]
    sums[rows[same]] += kept.sums[same]
    weights[rows[same]] += kept.weights[same]
    sums[rows[better]] = kept.sums[better]
    weights[rows[better]] = kept.weights[better]
    good[rows[better]] = True
    return GalleryPeople(person=more.person, sums=sums, weights=weights, good=good)


def store_sums(session: Session, trunk_id: int, people: GalleryPeople) -> None:
    """Write the sums of people under a trunk and a new revision; the caller holds the lock of people.

    A person who is not in the gallery of this trunk yet, only in that of another one, is added to it.
    """
    session.execute(text(_STAGE))
    session.execute(text("DELETE FROM pg_temp.person_sum"))
    write_rows(session, "pg_temp.person_sum", _SUMS, _columns(people))
    session.execute(_STORE, {"trunk_id": trunk_id})


def insert_people(session: Session, trunk_id: int, people: GalleryPeople) -> None:
    """Insert people with their sums under a trunk; the caller holds the lock of people and allocated the ids."""
    if len(people):
        write_rows(session, "facet.person", {"person_id": "bigint"}, {"person_id": people.person})
        store_sums(session, trunk_id, people)


def _columns(people: GalleryPeople) -> dict[str, NDArray[Any]]:
    return {
        "person_id": people.person,
        "embedding_sum": people.sums,
        "embedding_weight": people.weights,
        "is_good": people.good,
    }
