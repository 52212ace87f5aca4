"""Proposals: regroupings that wait for a user, because they would change more than the alarm allows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.arrays import read_rows, write_rows
from worker.errors import UsageError
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import change_people, follow_corrections, identify_all
from worker.identity.regroup import Regrouping, apply, compute, is_current, leave_out_changed, take_snapshot
from worker.ledger.releases import find_active

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session, sessionmaker

    from db.bulk.arrays import ColumnType
    from worker.identity.regroup import Alarm

_CHANGES: Mapping[str, ColumnType] = {
    "appearance_id": "bigint", "from_person_id": "bigint", "to_person_id": "bigint", "newcomer": "bigint",
}  # fmt: skip
_RELEASE = """(SELECT r.name FROM release r WHERE r.trunk_id = g.trunk_id
               ORDER BY r.active DESC, r.release_id DESC LIMIT 1) AS release"""
_OPEN = text(f"""
    SELECT g.*, {_RELEASE} FROM regroup_proposal g WHERE g.state = 'open'
    ORDER BY g.trunk_id = (SELECT trunk_id FROM release WHERE active) DESC NULLS LAST, g.proposal_id DESC""")  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Regrouped:
    """Outcome of a regrouping."""

    changed: int
    """Number of appearances that changed their person, or would."""
    appearances: int
    """Number of appearances that were grouped."""
    people_before: int
    people_after: int
    proposal_id: int | None
    """Number of the proposal where the regrouping waits; None where it was applied."""
    reason: str | None
    """Reason for which it waits, None where it was applied."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonShift:
    """The number of appearances that would go from one person to another."""

    from_person_id: int
    from_name: str | None
    to_person_id: int | None
    """None for a new person."""
    to_name: str | None
    appearances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenProposal:
    """A regrouping that waits for a user."""

    proposal_id: int
    release: str
    """Name of the release whose people it would change: the active one if it has the trunk, else the latest."""
    created_at: datetime
    reason: str
    appearance_count: int
    changed_count: int
    people_before: int
    people_after: int
    shifts: list[PersonShift]
    """The largest changes."""


def regroup_people(sessions: sessionmaker[Session], trunk_id: int, alarm: Alarm, *, force: bool = False) -> Regrouped:
    """Group all appearances of a trunk from scratch; a result beyond the alarm is stored as a proposal.

    People who were changed while it was computed are left as they are; the rest is applied.

    This prepares a new trunk: appearances without a person first get those of their places, and corrections that were
    made under the trunk of the views are followed. The result is what the new trunk sees otherwise.

    Args:
        sessions: of the database.
        trunk_id: the trunk.
        alarm: limits of what is applied at once.
        force: apply the result in spite of the alarm.
    """
    started = time.monotonic()
    gallery = Gallery(trunk_id)
    identify_all(sessions, gallery)
    change_people(sessions, "regroup", gallery, lambda session: _follow(session, gallery))
    with sessions() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        snapshot = take_snapshot(session, trunk_id)
    regrouping = compute(snapshot)

    def conclude(session: Session) -> Regrouped:
        lock_people(session)
        fitting = regrouping if is_current(session, regrouping) else leave_out_changed(session, snapshot, regrouping)
        return _conclude(session, gallery, fitting, None if force else alarm.reason(fitting), started)

    return change_people(sessions, "regroup", gallery, conclude)


def _follow(session: Session, gallery: Gallery) -> None:
    lock_people(session)
    active = find_active(session)
    if active is not None and active.trunk_id != gallery.trunk_id:
        follow_corrections(session, gallery)


def _conclude(
    session: Session, gallery: Gallery, regrouping: Regrouping, reason: str | None, started: float
) -> Regrouped:
    """Apply a regrouping, or store it as a proposal where there is a reason; the caller holds the lock of people."""
    proposal_id = None
    if reason is None:
        apply(session, gallery, regrouping)
        _close(session, regrouping.trunk_id, "discarded")
    else:
        proposal_id = _store(session, regrouping, reason)
    return Regrouped(
        changed=len(regrouping),
        appearances=regrouping.appearance_count,
        people_before=regrouping.people_before,
        people_after=regrouping.people_after,
        proposal_id=proposal_id,
        reason=reason,
        seconds=time.monotonic() - started,
    )


def _close(session: Session, trunk_id: int, state: str) -> None:
    """Settle the open proposal of a trunk, if there is one. At most one is open, since a newer one takes its place.

    Its changes are deleted: it can never be applied again, and at ten million appearances there may be a million.
    """
    settled = session.scalars(
        text("""UPDATE regroup_proposal SET state = :state, settled_at = clock_timestamp()
                WHERE trunk_id = :trunk_id AND state = 'open' RETURNING proposal_id"""),
        {"trunk_id": trunk_id, "state": state},
    ).all()
    session.execute(text("DELETE FROM regroup_change WHERE proposal_id = ANY(:ids)"), {"ids": list(settled)})


def _store(session: Session, regrouping: Regrouping, reason: str) -> int:
    _close(session, regrouping.trunk_id, "discarded")
    proposal_id = session.execute(
        text("""INSERT INTO regroup_proposal (trunk_id, reason, fingerprint, last_appearance_id, appearance_count,
                                              changed_count, people_before, people_after)
                VALUES (:trunk_id, :reason, :fingerprint, :last, :count, :changed, :before, :after)
                RETURNING proposal_id"""),
        {
            "trunk_id": regrouping.trunk_id,
            "reason": reason,
            "fingerprint": regrouping.fingerprint,
            "last": regrouping.last_appearance_id,
            "count": regrouping.appearance_count,
            "changed": len(regrouping),
            "before": regrouping.people_before,
            "after": regrouping.people_after,
        },
    ).scalar_one()
    columns: dict[str, ColumnType] = {"proposal_id": "bigint", **_CHANGES}
    rows = {
        "proposal_id": np.full(len(regrouping), proposal_id),
        "appearance_id": regrouping.appearance,
        "from_person_id": regrouping.before,
        "to_person_id": regrouping.after,
        "newcomer": regrouping.newcomer,
    }
    write_rows(session, "facet.regroup_change", columns, rows)
    return int(proposal_id)


def apply_proposal(session: Session, proposal_id: int) -> OpenProposal:
    """Apply a proposal.

    Raises:
        UsageError: there is no such proposal that is open, or it no longer fits what is stored.
    """
    lock_people(session)
    row = _open(session, proposal_id)
    changes = read_rows(
        session,
        f"SELECT {', '.join(_CHANGES)} FROM facet.regroup_change WHERE proposal_id = %(id)s ORDER BY appearance_id",  # noqa: S608 - constant columns
        _CHANGES,
        {"id": proposal_id},
    )
    regrouping = Regrouping(
        trunk_id=row.trunk_id,
        appearance=changes["appearance_id"],
        before=changes["from_person_id"],
        after=changes["to_person_id"],
        newcomer=changes["newcomer"],
        appearance_count=row.appearance_count,
        people_before=row.people_before,
        people_after=row.people_after,
        last_appearance_id=row.last_appearance_id,
        fingerprint=row.fingerprint,
    )
    if not is_current(session, regrouping):
        raise UsageError(
            f"proposal {proposal_id} of {row.created_at:%Y-%m-%d %H:%M} UTC no longer fits: people were changed since; "
            "run `facet people regroup` for a new one"
        )
    shown = _proposal(session, row)
    apply(session, Gallery(row.trunk_id), regrouping)
    _close(session, row.trunk_id, "applied")
    return shown


def discard_proposal(session: Session, proposal_id: int) -> None:
    """Discard an open proposal.

    Raises:
        UsageError: no open proposal has this number.
    """
    _close(session, _open(session, proposal_id).trunk_id, "discarded")


def read_proposals(session: Session) -> list[OpenProposal]:
    """Read the open proposals, at most one a trunk: that of the active release's trunk first, then the latest."""
    return [_proposal(session, row) for row in session.execute(_OPEN)]


def _open(session: Session, proposal_id: int) -> Row[tuple[object, ...]]:
    statement = text(
        f"SELECT *, {_RELEASE} FROM regroup_proposal g WHERE proposal_id = :id AND state = 'open' "  # noqa: S608 - a constant
        "FOR NO KEY UPDATE OF g"
    )
    row = session.execute(statement, {"id": proposal_id}).first()
    if row is None:
        raise UsageError(f"there is no open proposal {proposal_id}; see `facet people proposals`")
    return row


def _proposal(session: Session, row: Row[tuple[object, ...]]) -> OpenProposal:
    shifts = session.execute(
        text("""SELECT s.from_person_id, p.name AS from_name, s.to_person_id, q.name AS to_name, s.appearances
                FROM (SELECT from_person_id, nullif(to_person_id, -1) AS to_person_id, count(*) AS appearances
                      FROM regroup_change WHERE proposal_id = :id GROUP BY 1, 2, newcomer
                      ORDER BY 3 DESC, 1, 2 LIMIT 20) s
                LEFT JOIN person p ON p.person_id = s.from_person_id
                LEFT JOIN person q ON q.person_id = s.to_person_id
                ORDER BY s.appearances DESC, 1, 3"""),
        {"id": row.proposal_id},
    )
    return OpenProposal(
        proposal_id=row.proposal_id,
        release=row.release,
        created_at=row.created_at,
        reason=row.reason,
        appearance_count=row.appearance_count,
        changed_count=row.changed_count,
        people_before=row.people_before,
        people_after=row.people_after,
        shifts=[PersonShift(**shift._mapping) for shift in shifts],  # noqa: SLF001 - the documented way to read a Row by name
    )
