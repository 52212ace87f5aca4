"""Full regrouping: everybody's appearances are grouped from scratch, and the groups inherit the people.

Grouping a million appearances takes minutes, in which others go on identifying and correcting. So it is done on a copy:
the copy is read in one moment, grouped without holding anybody up, and written under the lock, but for what concerns
people who have changed since. Appearances that came meanwhile are placed anew among the people that the regrouping
made.
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
from worker.identity.corrections.anchors import read_corrections
from worker.identity.corrections.replay import replay
from worker.identity.gallery import insert_people, refresh_people, unseen_people
from worker.identity.grouping.assign import AppearanceEmbeddings, inherit, regroup
from worker.identity.grouping.in_view import connected_components
from worker.identity.identifier import settle
from worker.identity.placing import ROW, ROW_COLUMNS, embeddings_of, move_appearances, place, read_these

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import ColumnType
    from worker.config import Settings
    from worker.identity.corrections.replay import ReplayedCorrections
    from worker.identity.gallery import Gallery

    Ids = NDArray[np.int64]

_EVERYBODY = f"""
    SELECT {ROW_COLUMNS} FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
    WHERE s.release_id = %(release_id)s AND a.is_current AND s.person_id IS NOT NULL AND s.embedding IS NOT NULL
    ORDER BY s.appearance_id"""  # noqa: S608 - constant columns
_WHO: Mapping[str, ColumnType] = {"appearance_id": "bigint", "person_id": "bigint"}
_WHO_IS_WHO = """
    SELECT s.appearance_id, s.person_id FROM facet.appearance s JOIN facet.analysis a USING (analysis_id)
    WHERE s.release_id = %(release_id)s AND a.is_current AND s.person_id IS NOT NULL AND s.embedding IS NOT NULL
    ORDER BY s.appearance_id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrouping:
    """What a regrouping would change, and of what it speaks."""

    release_id: int
    appearance: Ids
    """(C,) appearances that would change their person."""
    before: Ids
    """(C,) the person that they have."""
    after: Ids
    """(C,) the person that they would have, -1 for somebody new."""
    newcomer: Ids
    """(C,) number of the new person, -1 for one who is known."""
    appearance_count: int
    """Appearances that were grouped."""
    people_before: int
    people_after: int
    last_appearance_id: int
    fingerprint: str
    """Hash of everybody's person when it was computed, and of the corrections that held."""

    def __len__(self) -> int:
        return len(self.appearance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """From when on a regrouping changes so much that somebody has to look first."""

    share: float
    """Largest share of the appearances that may change their person, or of the people that may vanish."""
    floor: int
    """Appearances or people of whom so many always may, because in a small archive they are a large share."""

    def reason(self, regrouping: Regrouping) -> str | None:
        """Say what is too much, None where nothing is."""
        changed, vanished = len(regrouping), regrouping.people_before - regrouping.people_after
        if changed > max(self.floor, self.share * regrouping.appearance_count):
            return f"{changed} of {regrouping.appearance_count} appearances would change their person"
        if vanished > max(self.floor, self.share * regrouping.people_before):
            return f"of {regrouping.people_before} people {regrouping.people_after} would be left"
        return None


def alarm_of(settings: Settings) -> Alarm:
    """Give the alarm of a deployment."""
    return Alarm(share=settings.regroup_alarm_share, floor=settings.regroup_alarm_floor)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everybody at one moment."""

    release_id: int
    appearance: Ids
    """(N,) all appearances that have a person, ascending."""
    person: Ids
    """(N,) that person."""
    embeddings: AppearanceEmbeddings
    """(N,)."""
    said: ReplayedCorrections
    fingerprint: str


def take_snapshot(session: Session, release_id: int) -> Snapshot:
    """Read everybody; the session's transaction must be REPEATABLE READ, or hold the lock of people."""
    ids, blocks = [], []
    for rows in read_blocks(session, _EVERYBODY, ROW, {"release_id": release_id}):
        ids.append(np.stack([rows["appearance_id"], rows["person_id"]]))
        blocks.append(embeddings_of(rows))
    appearance, person = np.concatenate(ids, axis=1)
    fingerprint = _fingerprint(session, appearance, person)
    said = replay(read_corrections(session, release_id))
    return Snapshot(release_id, appearance, person, AppearanceEmbeddings.cat(blocks), said, fingerprint)


def compute(snapshot: Snapshot) -> Regrouping:
    """Group everybody from scratch, as far as what humans said lets it, and compare with what is."""
    appearance, previous = snapshot.appearance, snapshot.person
    groups = regroup(snapshot.embeddings, constraints=snapshot.said.constraints(appearance))
    heirs = inherit(groups, previous)
    after = heirs[groups]
    changed = np.flatnonzero(after != previous)
    made = np.flatnonzero(heirs < 0)
    newcomer = np.full(len(heirs), -1, np.int64)
    newcomer[made] = np.arange(len(made))
    return Regrouping(
        release_id=snapshot.release_id,
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
    """Whether everybody of whom a regrouping speaks is still who they were; the caller holds the lock.

    Appearances that came later do not count.
    """
    who = read_rows(session, _WHO_IS_WHO, _WHO, {"release_id": regrouping.release_id})
    who = who[who["appearance_id"] <= regrouping.last_appearance_id]
    return _fingerprint(session, who["appearance_id"], who["person_id"]) == regrouping.fingerprint


def leave_out_changed(session: Session, snapshot: Snapshot, regrouping: Regrouping) -> Regrouping:
    """Leave out what concerns people who were changed since a snapshot; the caller holds the lock.

    People between whom appearances would go belong together: a group that is written in part could hold two who are in
    view together. So where one of them was changed, all changes between them and those that hang on these are left out.
    """
    who = read_rows(session, _WHO_IS_WHO, _WHO, {"release_id": regrouping.release_id})
    who = who[who["appearance_id"] <= regrouping.last_appearance_id]
    now = np.full(len(snapshot.appearance), -1, np.int64)
    kept = np.isin(who["appearance_id"], snapshot.appearance)
    now[np.searchsorted(snapshot.appearance, who["appearance_id"][kept])] = who["person_id"][kept]
    moved = now != snapshot.person
    changed = np.concatenate([snapshot.person[moved], now[moved], who["person_id"][~kept]])
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
        fingerprint=_fingerprint(session, who["appearance_id"], who["person_id"]),
    )


def apply(session: Session, known: Gallery, regrouping: Regrouping) -> None:
    """Write a regrouping that `is_current`; the caller holds the lock."""
    people = _make_people(session, regrouping)
    if len(regrouping):
        move_appearances(session, regrouping.appearance, people)
        refresh_people(session, np.concatenate([regrouping.before, people]))
    said = replay(read_corrections(session, regrouping.release_id))
    who = read_rows(session, _WHO_IS_WHO, _WHO, {"release_id": regrouping.release_id})
    latecomers = who["appearance_id"][who["appearance_id"] > regrouping.last_appearance_id]
    if len(latecomers) and len(regrouping):
        place(session, known, read_these(session, latecomers), said)
    settle(session, known, said)
    count_people(session)


def _make_people(session: Session, regrouping: Regrouping) -> Ids:
    """Make the new people of a regrouping; gives (C,) the person of each appearance that changes."""
    count = int(regrouping.newcomer.max(initial=-1)) + 1
    ids = np.array(allocate_ids(session, "person", count), np.int64)
    insert_people(session, regrouping.release_id, unseen_people(ids))
    new = regrouping.newcomer >= 0
    people = regrouping.after.copy()
    people[new] = ids[regrouping.newcomer[new]]
    return people


def _fingerprint(session: Session, appearances: Ids, people: Ids) -> str:
    """Hash who is who and which corrections hold."""
    corrections = session.execute(
        text("SELECT coalesce(max(correction_id), 0), count(undone_at) FROM correction")
    ).one()
    pairs = np.ascontiguousarray(np.stack([appearances, people]), "<i8")
    return hashlib.sha256(pairs.tobytes() + str(tuple(corrections)).encode()).hexdigest()
