"""Corrections: what humans say about people, applied at once, kept as rows, and undone exactly.

Each is a row with time and reason, anchored to places in files (``worker.identity.corrections.anchors``). From then on
it holds for every identification and regrouping (``worker.identity.corrections.replay``), until it is undone.
"""

from __future__ import annotations

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
from worker.identity.identifier import catch_up, settle
from worker.identity.placing import move_appearances, place, read_these
from worker.ledger.releases import active_release

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from worker.identity.corrections.replay import Kind, ReplayedCorrections

    Ids = NDArray[np.int64]

MAX_PAIRS = 1_000_000
"""Pairs that one ``not`` may tell apart: some 200 MB while corrections are replayed."""


def name_person(session: Session, person_id: int, name: str, *, reason: str | None = None) -> int:
    """Call a person by a name; returns the number of the correction.

    Raises:
        UsageError: there is no such person, or the name is empty.
    """
    name = name.strip()
    if not name:
        raise UsageError("the name is empty; expected what the person is called")
    known = _begin(session)
    members = _members(session, known.release_id, person_id)
    correction_id = _insert(session, known, "name", (person_id, name), reason)
    write_anchors(session, correction_id, members, members[:0])
    _close(session, known, correction_id)
    return correction_id


def merge_people(session: Session, person_ids: Sequence[int], *, reason: str | None = None) -> int:
    """Make two or more people one, who keeps the number of the first, and the first name in this order.

    Raises:
        UsageError: one of them does not exist, or they are fewer than two.
    """
    person_ids = list(dict.fromkeys(person_ids))
    if len(person_ids) < 2:
        raise UsageError("fewer than two people were given; expected the one that stays and those that join it")
    known = _begin(session)
    members = [_members(session, known.release_id, person_id) for person_id in person_ids]
    keep = person_ids[0]
    correction_id = _insert(session, known, "merge", (keep, _first_name(session, person_ids)), reason)
    write_anchors(session, correction_id, np.concatenate(members), members[0][:0])
    joined = np.concatenate(members[1:])
    move_appearances(session, joined, np.full(len(joined), keep))
    refresh_people(session, np.array(person_ids, np.int64))
    _close(session, known, correction_id)
    return correction_id


def split_person(
    session: Session, person_id: int, appearances: Sequence[int], *, reason: str | None = None
) -> tuple[int, int]:
    """Make some appearances of a person a new one.

    Returns:
        Numbers of the correction and of the new person.

    Raises:
        UsageError: there is no such person, or these are not some of its appearances.
    """
    known = _begin(session)
    subject, rest = _sides(session, known.release_id, person_id, appearances)
    correction_id = _insert(session, known, "split", (person_id, None), reason)
    write_anchors(session, correction_id, subject, rest)
    (new,) = allocate_ids(session, "person", 1)
    rows = read_these(session, subject)
    made = GalleryPeople.of(np.full(len(rows), new), rows["embedding"], rows["quality"])
    insert_people(session, known.release_id, made)
    move_appearances(session, subject, np.full(len(subject), new))
    refresh_people(session, np.array([person_id], np.int64))
    _claim(session, correction_id, made.person)
    _close(session, known, correction_id)
    return correction_id, new


def not_person(
    session: Session, person_id: int, appearances: Sequence[int], *, reason: str | None = None
) -> tuple[int, dict[int, int]]:
    """Say that some appearances are not this person: each becomes whom it resembles otherwise, or somebody new.

    Returns:
        Number of the correction, and the person of each appearance now.

    Raises:
        UsageError: there is no such person, or these are not some of its appearances.
    """
    known = _begin(session)
    subject, rest = _sides(session, known.release_id, person_id, appearances)
    if len(subject) * len(rest) > MAX_PAIRS:
        raise UsageError(
            f"{len(subject)} of {len(subject) + len(rest)} appearances are too many at once; expected at "
            f"most {MAX_PAIRS // len(rest)}: make them a person of their own with `facet people split`"
        )
    correction_id = _insert(session, known, "not", (person_id, None), reason)
    write_anchors(session, correction_id, subject, rest)
    placement = place(session, known, read_these(session, subject), _said(session, known))
    _claim(session, correction_id, placement.made)
    _close(session, known, correction_id)
    return correction_id, dict(zip(subject.tolist(), people_of(session, subject).tolist(), strict=True))


def undo_correction(session: Session, correction_id: int | None = None, *, reason: str | None = None) -> int:
    """Take a correction back, the latest by default; appearances that are still where it put them go back.

    Returns:
        Number of the correction.

    Raises:
        UsageError: there is none, it was undone before, or a later one speaks of the same people.
    """
    known = _begin(session)
    found = _find(session, correction_id)
    _refuse_if_built_upon(session, found.release_id, found.correction_id)
    moves = read_moves(session, found.release_id, found.correction_id)
    session.execute(
        text("UPDATE correction SET undone_at = clock_timestamp(), undo_reason = :reason WHERE correction_id = :id"),
        {"id": found.correction_id, "reason": reason},
    )
    _move_back(session, moves)
    for release_id in {known.release_id, found.release_id}:
        here = Gallery(release_id)
        settle(session, here, _said(session, here))
    _delete_made(session, found.correction_id)
    count_people(session)
    return int(found.correction_id)


def _begin(session: Session) -> Gallery:
    """Take the lock and let files that were analysed again have their people first."""
    lock_people(session)
    known = Gallery(active_release(session)[0])
    catch_up(session, known)
    return known


def _members(session: Session, release_id: int, person_id: int) -> Ids:
    found = session.scalars(
        text("""SELECT appearance_id FROM appearance s JOIN analysis a USING (analysis_id)
                WHERE s.person_id = :person_id AND s.release_id = :release_id AND a.is_current
                ORDER BY appearance_id"""),
        {"person_id": person_id, "release_id": release_id},
    ).all()
    if not found:
        raise UsageError(f"there is no person {person_id}; see `facet people list`")
    return np.array(found, np.int64)


def _sides(session: Session, release_id: int, person_id: int, appearances: Sequence[int]) -> tuple[Ids, Ids]:
    """Give the appearances that were named and the rest of the person, both in order."""
    members = _members(session, release_id, person_id)
    subject = np.unique(np.array(appearances, np.int64))
    strangers = np.setdiff1d(subject, members).tolist()
    if strangers or not len(subject):
        given = f"appearances {', '.join(map(str, strangers))} are not of person {person_id}" if strangers else "none"
        raise UsageError(f"{given}; expected some of those that `facet people show {person_id}` lists")
    rest = np.setdiff1d(members, subject)
    if not len(rest):
        raise UsageError(f"these are all {len(members)} appearances of person {person_id}; expected some of them")
    return subject, rest


def _first_name(session: Session, person_ids: Sequence[int]) -> str | None:
    found = session.execute(
        text("SELECT person_id, name FROM person WHERE person_id = ANY(:ids) AND name IS NOT NULL"),
        {"ids": list(person_ids)},
    ).all()
    names = {row.person_id: str(row.name) for row in found}
    return next((names[person_id] for person_id in person_ids if person_id in names), None)


def _insert(session: Session, known: Gallery, kind: Kind, called: tuple[int, str | None], reason: str | None) -> int:
    statement = text("""INSERT INTO correction (release_id, kind, name, reason, people, created_at)
                        VALUES (:release_id, :kind, :name, :reason, ARRAY[cast(:person AS bigint)], clock_timestamp())
                        RETURNING correction_id""")
    person, name = called
    facts = {"release_id": known.release_id, "kind": kind, "name": name, "reason": reason, "person": person}
    return int(session.execute(statement, facts).scalar_one())


def _claim(session: Session, correction_id: int, made: Ids) -> None:
    """Note which people a correction made."""
    statement = text("UPDATE person SET correction_id = :correction_id WHERE person_id = ANY(:made)")
    session.execute(statement, {"correction_id": correction_id, "made": made.tolist()})


def _said(session: Session, known: Gallery) -> ReplayedCorrections:
    return replay(read_corrections(session, known.release_id))


def _close(session: Session, known: Gallery, correction_id: int) -> None:
    """Let everything else follow, and note where the appearances went."""
    settle(session, known, _said(session, known))
    session.execute(
        text("""UPDATE correction_anchor k SET to_person_id = s.person_id FROM appearance s
                WHERE k.correction_id = :id AND s.appearance_id = k.appearance_id"""),
        {"id": correction_id},
    )
    session.execute(
        text("""UPDATE correction c SET people = c.people || coalesce((
                    SELECT array_agg(DISTINCT p.person_id ORDER BY p.person_id)
                    FROM correction_anchor k, LATERAL (VALUES (k.from_person_id), (k.to_person_id)) AS p(person_id)
                    WHERE k.correction_id = c.correction_id AND p.person_id <> c.people[1]), '{}')
                WHERE c.correction_id = :id"""),
        {"id": correction_id},
    )
    count_people(session)


def _find(session: Session, correction_id: int | None) -> Row[tuple[int, int, datetime]]:
    """Read the correction to undo: the one given, or the latest that holds."""
    found = session.execute(
        text("""SELECT correction_id, release_id, undone_at FROM correction
                WHERE correction_id = coalesce(:id, (SELECT max(correction_id) FROM correction
                                                     WHERE undone_at IS NULL))"""),
        {"id": correction_id},
    ).first()
    if found is None:
        which = "no correction holds" if correction_id is None else f"there is no correction {correction_id}"
        raise UsageError(f"{which}; see `facet people history`")
    if found.undone_at is not None:
        raise UsageError(f"correction {correction_id} was undone on {found.undone_at:%Y-%m-%d %H:%M} UTC")
    return found


def _refuse_if_built_upon(session: Session, release_id: int, correction_id: int) -> None:
    later = session.scalars(
        text("""SELECT d.correction_id FROM correction c JOIN correction d ON d.correction_id > c.correction_id
                WHERE c.correction_id = :id AND d.undone_at IS NULL
                  AND d.people && array_remove(c.people, cast(:erased AS bigint))"""),
        {"id": correction_id, "erased": ERASED},
    ).all()
    words = {word.correction_id: word for word in read_corrections(session, release_id)}
    own = words[correction_id].appearances
    same = [number for number, word in words.items() if number > correction_id and np.isin(word.appearances, own).any()]
    if first := sorted({*later, *same}, reverse=True):
        raise UsageError(
            f"correction {correction_id} cannot be undone alone: later ones speak of the same people; "
            f"undo {', '.join(map(str, first))} first, in this order"
        )


def _move_back(session: Session, moves: NDArray[np.void]) -> None:
    """Give appearances that are still where a correction put them the person that they had, if there is one still."""
    people = people_of(session, np.unique(moves["appearance_id"]))
    here = people[np.searchsorted(np.unique(moves["appearance_id"]), moves["appearance_id"])]
    alive = session.scalars(
        text("SELECT person_id FROM person WHERE person_id = ANY(:ids)"),
        {"ids": np.unique(moves["from_person_id"]).tolist()},
    ).all()
    moved = moves[
        (moves["from_person_id"] != moves["to_person_id"])
        & (here == moves["to_person_id"])
        & np.isin(moves["from_person_id"], alive)
    ]
    if len(moved):
        move_appearances(session, moved["appearance_id"], moved["from_person_id"])
        refresh_people(session, np.concatenate([moved["from_person_id"], moved["to_person_id"]]))


def _delete_made(session: Session, correction_id: int) -> None:
    """Take away the people that a correction made, where nobody is them any more."""
    session.execute(
        text("""DELETE FROM person p WHERE p.correction_id = :id
                AND NOT EXISTS (SELECT FROM appearance s WHERE s.person_id = p.person_id)"""),
        {"id": correction_id},
    )
