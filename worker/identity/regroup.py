"""Full regrouping: all appearances are grouped from scratch, and the groups inherit the people.

Grouping a million appearances takes minutes, in which workers go on identifying and users correcting. So it runs on a
snapshot, without a lock, and the result is written under the lock of people, except for people who have changed since.
Appearances that came meanwhile are placed again among the people that the regrouping made.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.arrays import read_blocks, read_rows
from db.bulk.rows import allocate_ids
from db.schema.totals import count_people
from worker.columns import ArrayColumns
from worker.identity.corrections.anchors import read_corrections
from worker.identity.corrections.replay import replay
from worker.identity.gallery import insert_people, refresh_people, unseen_people
from worker.identity.grouping.assign import inherit, regroup
from worker.identity.grouping.in_view import connected_components
from worker.identity.identifier import enforce
from worker.identity.placing import move_appearances, place
from worker.identity.stored_appearances import COLUMN_TYPES, STORED_COLUMNS, StoredAppearances, read_stored_appearances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import ColumnType
    from worker.config import Settings
    from worker.identity.corrections.replay import ReplayedCorrections
    from worker.identity.gallery import Gallery

    Ids = NDArray[np.int64]

_ALL = f"""
    SELECT {STORED_COLUMNS} FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
    WHERE s.trunk_id = %(trunk_id)s AND a.is_current AND s.person_id IS NOT NULL AND s.embedding IS NOT NULL
    ORDER BY s.appearance_id"""  # noqa: S608 - constant columns
_MEMBERSHIP_TYPES: Mapping[str, ColumnType] = {"appearance_id": "bigint", "person_id": "bigint"}
_MEMBERSHIPS = """
    SELECT s.appearance_id, s.person_id FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
    WHERE s.trunk_id = %(trunk_id)s AND a.is_current AND s.person_id IS NOT NULL AND s.embedding IS NOT NULL
    ORDER BY s.appearance_id"""


@dataclass(frozen=True, slots=True, repr=False)
class Memberships(ArrayColumns):
    """The person of each appearance of the current analyses under a trunk."""

    appearance: Ids
    """(N,) ids, ascending."""
    person: Ids
    """(N,) id of the person."""

    def __post_init__(self) -> None:
        self._check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrouping:
    """The changes that a regrouping would make, and the state that they are computed from."""

    trunk_id: int
    appearance: Ids
    """(C,) appearances that would change their person."""
    before: Ids
    """(C,) the person that each has."""
    after: Ids
    """(C,) the person that each would have, -1 for a new one."""
    newcomer: Ids
    """(C,) number of the new person, -1 for one that exists."""
    appearance_count: int
    """Number of appearances that were grouped."""
    people_before: int
    people_after: int
    last_appearance_id: int
    fingerprint: str
    """Hash of the memberships that it was computed from, and of the corrections that were active."""

    def __len__(self) -> int:
        return len(self.appearance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Limits beyond which a regrouping waits for a user as a proposal."""

    share: float
    """Largest share of the appearances that may change their person, or of the people that may vanish."""
    floor: int
    """Number of appearances or people that always may change: in a small archive they are a large share."""

    def reason(self, regrouping: Regrouping) -> str | None:
        """Return which limit a regrouping exceeds, None where it exceeds none."""
        changed, vanished = len(regrouping), regrouping.people_before - regrouping.people_after
        if changed > max(self.floor, self.share * regrouping.appearance_count):
            return f"{changed} of {regrouping.appearance_count} appearances would change their person"
        if vanished > max(self.floor, self.share * regrouping.people_before):
            return f"of {regrouping.people_before} people {regrouping.people_after} would be left"
        return None


def alarm_of(settings: Settings) -> Alarm:
    """Return the alarm of a deployment."""
    return Alarm(share=settings.regroup_alarm_share, floor=settings.regroup_alarm_floor)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All appearances of a trunk at one moment."""

    trunk_id: int
    appearances: StoredAppearances
    """N appearances that have a person, in order of id."""
    corrections: ReplayedCorrections
    fingerprint: str
    """Hash of memberships and corrections."""


def take_snapshot(session: Session, trunk_id: int) -> Snapshot:
    """Read all appearances; the session's transaction must be REPEATABLE READ, or hold the lock of people."""
    blocks = read_blocks(session, _ALL, COLUMN_TYPES, {"trunk_id": trunk_id})
    appearances = StoredAppearances.cat([StoredAppearances.from_rows(rows) for rows in blocks])
    fingerprint = _fingerprint(session, Memberships(appearances.appearance, appearances.person))
    return Snapshot(trunk_id, appearances, replay(read_corrections(session, trunk_id)), fingerprint)


def compute(snapshot: Snapshot) -> Regrouping:
    """Group all appearances from scratch under the corrections, and compare with the people that they have."""
    appearance, previous = snapshot.appearances.appearance, snapshot.appearances.person
    groups = regroup(snapshot.appearances, constraints=snapshot.corrections.constraints(appearance))
    heirs = inherit(groups, previous)
    after = heirs[groups]
    changed = np.flatnonzero(after != previous)
    made = np.flatnonzero(heirs < 0)
    newcomer = np.full(len(heirs), -1, np.int64)
    newcomer[made] = np.arange(len(made))
    return Regrouping(
        trunk_id=snapshot.trunk_id,
        appearance=appearance[changed],
        before=previous[changed],
        after=after[changed],
        newcomer=newcomer[groups[changed]],
        appearance_count=len(appearance),
        people_before=len(np.unique(previous)),
        people_after=len(heirs),
        last_appearance_id=int(appearance.max(initial=0)),
        fingerprint=snapshot.fingerprint,
    )


def is_current(session: Session, regrouping: Regrouping) -> bool:
    """Return whether memberships and corrections are those of the snapshot; the caller holds the lock of people.

    Appearances that came later do not count.
    """
    return _fingerprint(session, _read_memberships(session, regrouping)) == regrouping.fingerprint


def leave_out_changed(session: Session, snapshot: Snapshot, regrouping: Regrouping) -> Regrouping:
    """Leave out the changes to people who have changed since the snapshot; the caller holds the lock of people.

    People who would exchange appearances belong together: a group that is written in part could hold two people who are
    in view together. So where one of them has changed, all changes between them, and those that depend on these, are
    left out.
    """
    old, current = snapshot.appearances, _read_memberships(session, regrouping)
    now = np.full(len(old), -1, np.int64)
    kept = np.isin(current.appearance, old.appearance)
    now[np.searchsorted(old.appearance, current.appearance[kept])] = current.person[kept]
    moved = now != old.person
    changed = np.concatenate([old.person[moved], now[moved], current.person[~kept]])
    target = np.where(regrouping.newcomer >= 0, -2 - regrouping.newcomer, regrouping.after)  # no person has such an id
    people, rows = np.unique(np.concatenate([regrouping.before, target, changed]), return_inverse=True)
    before, after, touched = np.split(rows, [len(target), 2 * len(target)])
    chain = connected_components(len(people), np.stack([before, after], axis=1))
    fits = ~np.isin(chain[before], chain[touched])
    _, newcomer = np.unique(regrouping.newcomer[fits], return_inverse=True)
    has_newcomer = regrouping.newcomer[fits] >= 0
    return replace(
        regrouping,
        appearance=regrouping.appearance[fits],
        before=regrouping.before[fits],
        after=regrouping.after[fits],
        newcomer=np.where(has_newcomer, newcomer - int(not has_newcomer.all()), -1),
        fingerprint=_fingerprint(session, current),
    )


def apply(session: Session, gallery: Gallery, regrouping: Regrouping) -> None:
    """Write a regrouping that `is_current`; the caller holds the lock of people."""
    people = _make_people(session, regrouping)
    if len(regrouping):
        move_appearances(session, regrouping.appearance, people)
        refresh_people(session, regrouping.trunk_id, np.concatenate([regrouping.before, people]))
    corrections = replay(read_corrections(session, regrouping.trunk_id))
    appearances = _read_all_memberships(session, regrouping.trunk_id).appearance
    later = appearances[appearances > regrouping.last_appearance_id]
    if len(later) and len(regrouping):
        place(session, gallery, read_stored_appearances(session, later), corrections)
    enforce(session, gallery, corrections)
    count_people(session)


def _make_people(session: Session, regrouping: Regrouping) -> Ids:
    """Insert the new people of a regrouping; returns the (C,) person of each appearance that changes."""
    count = int(regrouping.newcomer.max(initial=-1)) + 1
    ids = np.array(allocate_ids(session, "person", count), np.int64)
    insert_people(session, regrouping.trunk_id, unseen_people(ids))
    new = regrouping.newcomer >= 0
    people = regrouping.after.copy()
    people[new] = ids[regrouping.newcomer[new]]
    return people


def _read_memberships(session: Session, regrouping: Regrouping) -> Memberships:
    """Read the memberships of the appearances that a regrouping may know."""
    found = _read_all_memberships(session, regrouping.trunk_id)
    return found[found.appearance <= regrouping.last_appearance_id]


def _read_all_memberships(session: Session, trunk_id: int) -> Memberships:
    rows = read_rows(session, _MEMBERSHIPS, _MEMBERSHIP_TYPES, {"trunk_id": trunk_id})
    return Memberships(rows["appearance_id"], rows["person_id"])


def _fingerprint(session: Session, memberships: Memberships) -> str:
    """Hash memberships and the state of the corrections."""
    corrections = session.execute(
        text("SELECT coalesce(max(correction_id), 0), count(undone_at) FROM correction")
    ).one()
    pairs = np.ascontiguousarray(np.stack([memberships.appearance, memberships.person]), "<i8")
    return hashlib.sha256(pairs.tobytes() + str(tuple(corrections)).encode()).hexdigest()
