"""Corrections of people by users: applied at once, kept as rows, and undone exactly.

Each is a row with time and reason, anchored to places in files (``worker.identity.corrections.anchors``). From then on
it holds for every identification and regrouping (``worker.identity.corrections.replay``), until it is undone.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.bulk.rows import allocate_ids
from db.schema.totals import count_people
from worker.errors import UsageError
from worker.identity.corrections.anchors import ERASED, read_corrections, read_moves, write_anchors
from worker.identity.corrections.name_assignment import people_of
from worker.identity.corrections.replay import replay
from worker.identity.gallery import Gallery, insert_people, lock_people, refresh_people
from worker.identity.grouping.assign import GalleryPeople
from worker.identity.identifier import catch_up, enforce
from worker.identity.placing import move_appearances, place
from worker.identity.stored_appearances import read_stored_appearances
from worker.ledger.releases import active_release

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from worker.identity.corrections.anchors import Moves
    from worker.identity.corrections.replay import CorrectionKind, ReplayedCorrections

    Ids = NDArray[np.int64]

_CLAIM_NEW = text("""UPDATE person p SET correction_id = k.correction_id FROM correction_anchor k
    WHERE k.correction_id = ANY(:ids) AND k.to_person_id = p.person_id AND p.person_id > :last""")
MAX_PAIRS = 1_000_000  # cannot-links of one ``not``: some 200 MB while corrections are replayed
MAX_SIDE = 10  # appearances of each of two people who are separated: the clearest keep the others apart


@dataclass(frozen=True, slots=True)
class NewName:
    """A name to be given to a person."""

    person_id: int
    name: str
    reason: str | None = None
    appearances: tuple[int, ...] = ()
    """Those that are called so, of any people; none: all of the person."""


@dataclass(frozen=True, slots=True)
class SplitResult:
    """Outcome of a split."""

    correction_id: int
    person_id: int
    """The new person."""


@dataclass(frozen=True, slots=True)
class NotResult:
    """Outcome of a not."""

    correction_id: int
    people: dict[int, int]
    """Person by appearance, for those that were sent away."""


@dataclass(frozen=True, slots=True)
class _Sides:
    """The appearances of a person in two parts, each in order of id."""

    subject: Ids
    rest: Ids


@dataclass(frozen=True, slots=True)
class _NewCorrection:
    """The row of a correction."""

    kind: CorrectionKind
    person_id: int
    """The person that it is made about."""
    name: str | None
    reason: str | None
    made_by: str | None


def name_people(session: Session, names: Sequence[NewName], *, made_by: str | None = None) -> list[int]:
    """Name people; returns the numbers of the corrections.

    Args:
        session: an open session.
        names: the names.
        made_by: name of the user, as for all corrections.

    Raises:
        UsageError: there is no such person, or a name is empty.
    """
    gallery = _begin(session)
    last = session.scalar(text("SELECT max(person_id) FROM person"))
    corrections = []
    for new in names:
        name = unicodedata.normalize("NFC", new.name.strip())
        if not name:
            raise UsageError("the name is empty; expected what the person is called")
        named = np.array(sorted(new.appearances) or _members(session, gallery.trunk_id, new.person_id), np.int64)
        corrections.append(_insert(session, _NewCorrection("name", new.person_id, name, new.reason, made_by)))
        write_anchors(session, corrections[-1], named, named[:0])
    _close(session, gallery, *corrections)
    session.execute(_CLAIM_NEW, {"ids": corrections, "last": last})
    return corrections


def merge_people(
    session: Session, person_ids: Sequence[int], *, reason: str | None = None, made_by: str | None = None
) -> int:
    """Merge two or more people into the first, which keeps its number and takes the first name in this order.

    Raises:
        UsageError: one of them does not exist, or they are fewer than two.
    """
    person_ids = list(dict.fromkeys(person_ids))
    if len(person_ids) < 2:
        raise UsageError("fewer than two people were given; expected the one that stays and those that join it")
    gallery = _begin(session)
    members = [_members(session, gallery.trunk_id, person_id) for person_id in person_ids]
    keep = person_ids[0]
    new = _NewCorrection("merge", keep, _first_name(session, person_ids), reason, made_by)
    correction_id = _insert(session, new)
    write_anchors(session, correction_id, np.concatenate(members), members[0][:0])
    joined = np.concatenate(members[1:])
    move_appearances(session, joined, np.full(len(joined), keep))
    refresh_people(session, gallery.trunk_id, np.array(person_ids, np.int64))
    _close(session, gallery, correction_id)
    return correction_id


def split_person(
    session: Session,
    person_id: int,
    appearances: Sequence[int],
    *,
    reason: str | None = None,
    made_by: str | None = None,
) -> SplitResult:
    """Make some appearances of a person a new one.

    Raises:
        UsageError: there is no such person, or these are not some of its appearances.
    """
    gallery = _begin(session)
    sides = _sides(session, gallery.trunk_id, person_id, appearances)
    correction_id = _insert(session, _NewCorrection("split", person_id, None, reason, made_by))
    write_anchors(session, correction_id, sides.subject, sides.rest)
    (new,) = allocate_ids(session, "person", 1)
    moving = read_stored_appearances(session, sides.subject)
    made = GalleryPeople.of(np.full(len(moving), new), moving.embeddings, moving.quality)
    insert_people(session, gallery.trunk_id, made)
    move_appearances(session, sides.subject, np.full(len(sides.subject), new))
    refresh_people(session, gallery.trunk_id, np.array([person_id], np.int64))
    _claim(session, correction_id, made.person)
    _close(session, gallery, correction_id)
    return SplitResult(correction_id, new)


def not_person(
    session: Session,
    person_id: int,
    appearances: Sequence[int],
    *,
    reason: str | None = None,
    made_by: str | None = None,
) -> NotResult:
    """Send some appearances away from a person: each goes to the next person that it resembles, or becomes a new one.

    Raises:
        UsageError: there is no such person, or these are not some of its appearances.
    """
    gallery = _begin(session)
    sides = _sides(session, gallery.trunk_id, person_id, appearances)
    subject, rest = sides.subject, sides.rest
    if len(subject) * len(rest) > MAX_PAIRS:
        raise UsageError(
            f"{len(subject)} of {len(subject) + len(rest)} appearances are too many at once; expected at "
            f"most {MAX_PAIRS // len(rest)}: make them a person of their own with `facet people split`"
        )
    correction_id = _insert(session, _NewCorrection("not", person_id, None, reason, made_by))
    write_anchors(session, correction_id, subject, rest)
    placement = place(session, gallery, read_stored_appearances(session, subject), _corrections(session, gallery))
    _claim(session, correction_id, placement.made)
    _close(session, gallery, correction_id)
    people = people_of(session, subject)
    return NotResult(correction_id, dict(zip(subject.tolist(), people.tolist(), strict=True)))


def separate_people(session: Session, person_id: int, other_id: int, *, made_by: str | None = None) -> int:
    """State that two people are not one, both of whom keep their appearances and names.

    Raises:
        UsageError: one of them does not exist, or both are the same.
    """
    if person_id == other_id:
        raise UsageError(f"got person {person_id} twice, expected two people")
    gallery = _begin(session)
    rest, subject = (_clearest(session, _members(session, gallery.trunk_id, one)) for one in (person_id, other_id))
    new = _NewCorrection("not", person_id, _first_name(session, [other_id]), None, made_by)
    correction_id = _insert(session, new)
    write_anchors(session, correction_id, subject, rest)
    _close(session, gallery, correction_id)
    return correction_id


def undo_correction(
    session: Session, correction_id: int | None = None, *, reason: str | None = None, made_by: str | None = None
) -> int:
    """Undo a correction, the latest by default; appearances that are still where it put them go back.

    Returns:
        Number of the correction.

    Raises:
        UsageError: there is no such correction, it was undone before, or a later one concerns the same people.
    """
    _begin(session)
    found = _find(session, correction_id)
    _refuse_if_built_upon(session, found.trunk_id, found.correction_id)
    moves = {trunk_id: read_moves(session, trunk_id, found.correction_id) for trunk_id in _trunks(session)}
    session.execute(
        text("""UPDATE correction SET undone_at = clock_timestamp(), undo_reason = :reason, undone_by = :made_by
                WHERE correction_id = :id"""),
        {"id": found.correction_id, "reason": reason, "made_by": made_by},
    )
    for trunk_id, moved in moves.items():
        _move_back(session, trunk_id, moved)
        affected = Gallery(trunk_id)
        enforce(session, affected, _corrections(session, affected))
    _delete_made(session, found.correction_id)
    count_people(session)
    return int(found.correction_id)


def _begin(session: Session) -> Gallery:
    """Take the lock of people, and identify files that were analysed again."""
    lock_people(session)
    gallery = Gallery(active_release(session)[0].trunk_id)
    catch_up(session, gallery)
    return gallery


def _members(session: Session, trunk_id: int, person_id: int) -> Ids:
    found = session.scalars(
        text("""SELECT appearance_id FROM appearance s JOIN analysis a USING (analysis_id)
                WHERE s.person_id = :person_id AND s.trunk_id = :trunk_id AND a.is_current
                ORDER BY appearance_id"""),
        {"person_id": person_id, "trunk_id": trunk_id},
    ).all()
    if not found:
        raise UsageError(f"there is no person {person_id}; see `facet people list`")
    return np.array(found, np.int64)


def _sides(session: Session, trunk_id: int, person_id: int, appearances: Sequence[int]) -> _Sides:
    """Check the appearances that were given, and return them and the rest of the person."""
    members = _members(session, trunk_id, person_id)
    subject = np.unique(np.array(appearances, np.int64))
    strangers = np.setdiff1d(subject, members).tolist()
    if strangers or not len(subject):
        given = f"appearances {', '.join(map(str, strangers))} are not of person {person_id}" if strangers else "none"
        raise UsageError(f"{given}; expected some of those that `facet people show {person_id}` lists")
    rest = np.setdiff1d(members, subject)
    if not len(rest):
        raise UsageError(f"these are all {len(members)} appearances of person {person_id}; expected some of them")
    return _Sides(subject, rest)


def _clearest(session: Session, appearances: Ids) -> Ids:
    """Return the `MAX_SIDE` appearances of the highest quality, in order of id."""
    statement = text("""SELECT appearance_id FROM appearance WHERE appearance_id = ANY(:ids)
                        ORDER BY quality DESC NULLS LAST, appearance_id LIMIT :most""")
    found = session.scalars(statement, {"ids": appearances.tolist(), "most": MAX_SIDE}).all()
    return np.sort(np.array(found, np.int64))


def _first_name(session: Session, person_ids: Sequence[int]) -> str | None:
    found = session.execute(
        text("SELECT person_id, name FROM person WHERE person_id = ANY(:ids) AND name IS NOT NULL"),
        {"ids": list(person_ids)},
    ).all()
    names = {row.person_id: str(row.name) for row in found}
    return next((names[person_id] for person_id in person_ids if person_id in names), None)


def _insert(session: Session, new: _NewCorrection) -> int:
    statement = text("""INSERT INTO correction (release_id, kind, name, reason, made_by, people, created_at)
                        SELECT release_id, :kind, :name, :reason, :made_by, ARRAY[cast(:person AS bigint)],
                               clock_timestamp()
                        FROM release WHERE active
                        RETURNING correction_id""")
    facts = {"kind": new.kind, "name": new.name, "reason": new.reason, "made_by": new.made_by, "person": new.person_id}
    return int(session.execute(statement, facts).scalar_one())


def _claim(session: Session, correction_id: int, made: Ids) -> None:
    """Mark the people that a correction made."""
    statement = text("UPDATE person SET correction_id = :correction_id WHERE person_id = ANY(:made)")
    session.execute(statement, {"correction_id": correction_id, "made": made.tolist()})


def _corrections(session: Session, gallery: Gallery) -> ReplayedCorrections:
    return replay(read_corrections(session, gallery.trunk_id))


def _close(session: Session, gallery: Gallery, *correction_ids: int) -> None:
    """Mend violations, and store the person that each anchor and the corrections lead to now."""
    enforce(session, gallery, _corrections(session, gallery))
    session.execute(
        text("""UPDATE correction_anchor k SET to_person_id = s.person_id FROM appearance s
                WHERE k.correction_id = ANY(:ids) AND s.appearance_id = k.appearance_id"""),
        {"ids": list(correction_ids)},
    )
    session.execute(
        text("""UPDATE correction c SET people = c.people || coalesce((
                    SELECT array_agg(DISTINCT p.person_id ORDER BY p.person_id)
                    FROM correction_anchor k, LATERAL (VALUES (k.from_person_id), (k.to_person_id)) AS p(person_id)
                    WHERE k.correction_id = c.correction_id AND p.person_id <> c.people[1]), '{}')
                WHERE c.correction_id = ANY(:ids)"""),
        {"ids": list(correction_ids)},
    )
    count_people(session)


def _trunks(session: Session) -> list[int]:
    """Return all trunks, that of the views first: a correction is undone under each, wherever its places are found."""
    statement = text("""SELECT layer_id FROM layer WHERE kind = 'trunk'
                        ORDER BY layer_id = (SELECT trunk_id FROM release WHERE active) DESC NULLS LAST, layer_id""")
    return list(session.scalars(statement))


def _find(session: Session, correction_id: int | None) -> Row[tuple[int, int, datetime]]:
    """Read the correction to undo, with the trunk under which it was made: the one given, or the latest active one."""
    found = session.execute(
        text("""SELECT correction_id, trunk_id, undone_at FROM correction JOIN release USING (release_id)
                WHERE correction_id = coalesce(:id, (SELECT max(correction_id) FROM correction
                                                     WHERE undone_at IS NULL))"""),
        {"id": correction_id},
    ).first()
    if found is None:
        which = "no correction is active" if correction_id is None else f"there is no correction {correction_id}"
        raise UsageError(f"{which}; see `facet people history`")
    if found.undone_at is not None:
        raise UsageError(f"correction {correction_id} was undone on {found.undone_at:%Y-%m-%d %H:%M} UTC")
    return found


def _refuse_if_built_upon(session: Session, trunk_id: int, correction_id: int) -> None:
    later = session.scalars(
        text("""SELECT d.correction_id FROM correction c JOIN correction d ON d.correction_id > c.correction_id
                WHERE c.correction_id = :id AND d.undone_at IS NULL
                  AND d.people && array_remove(c.people, cast(:erased AS bigint))"""),
        {"id": correction_id, "erased": ERASED},
    ).all()
    active = {one.correction_id: one for one in read_corrections(session, trunk_id)}
    own = active[correction_id].appearances
    same = [number for number, one in active.items() if number > correction_id and np.isin(one.appearances, own).any()]
    if first := sorted({*later, *same}, reverse=True):
        raise UsageError(
            f"correction {correction_id} cannot be undone alone: later ones concern the same people; "
            f"undo {', '.join(map(str, first))} first, in this order"
        )


def _move_back(session: Session, trunk_id: int, moves: Moves) -> None:
    """Return appearances that are still where a correction put them to the person they had, if it still exists."""
    unique, rows = np.unique(moves.appearance, return_inverse=True)
    now = people_of(session, unique)[rows]
    alive = session.scalars(
        text("SELECT person_id FROM person WHERE person_id = ANY(:ids)"), {"ids": np.unique(moves.before).tolist()}
    ).all()
    moved = moves[(moves.before != moves.after) & (now == moves.after) & np.isin(moves.before, alive)]
    if len(moved):
        move_appearances(session, moved.appearance, moved.before)
        refresh_people(session, trunk_id, np.concatenate([moved.before, moved.after]))


def _delete_made(session: Session, correction_id: int) -> None:
    """Delete the people that a correction made and that have no appearance left."""
    session.execute(
        text("""DELETE FROM person p WHERE p.correction_id = :id
                AND NOT EXISTS (SELECT FROM appearance s WHERE s.person_id = p.person_id)"""),
        {"id": correction_id},
    )
