"""Places appearances: finds the person of each, in the gallery or new, and writes the effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.base import EMBEDDING_DIMENSION
from db.bulk.arrays import read_rows
from db.bulk.rows import allocate_ids
from worker.identity.carry_over import with_carried
from worker.identity.corrections.conflicts import constraints_for
from worker.identity.corrections.name_assignment import people_of
from worker.identity.gallery import insert_people, refresh_people, store_sums, sum_up
from worker.identity.grouping.assign import GalleryPeople, assign
from worker.identity.grouping.constraints import Constraints
from worker.identity.grouping.in_view import Sightings
from worker.identity.stored_appearances import COLUMN_TYPES, StoredAppearances

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from worker.identity.corrections.replay import ReplayedCorrections
    from worker.identity.gallery import Gallery
    from worker.identity.grouping.assign import Assignment

    Ids = NDArray[np.int64]

_IN_VIEW = """
    SELECT s.appearance_id, s.person_id, s.media_id, s.start_seconds, s.end_seconds, s.quality,
           coalesce(s.embedding::vector, array_fill(0::real, ARRAY[%(dimension)s])::vector)
    FROM unnest(%(media)s::bigint[], %(first)s::float8[], %(last)s::float8[]) AS span (media_id, first, last)
    JOIN facet.appearance s ON s.media_id = span.media_id AND s.start_seconds <= last AND s.end_seconds >= first
    JOIN facet.analysis a USING (analysis_id)
    WHERE s.trunk_id = %(trunk_id)s AND s.person_id IS NOT NULL AND a.is_current"""


@dataclass(frozen=True, slots=True)
class Placement:
    """People of N appearances after placing."""

    person: Ids
    """(N,) person of each appearance."""
    made: Ids
    """Ids of people who are new."""


def place(
    session: Session,
    gallery: Gallery,
    appearances: StoredAppearances,
    corrections: ReplayedCorrections | None,
    carried: Ids | None = None,
) -> Placement:
    """Assign appearances to people, as if they were new; the caller holds the lock of people.

    Args:
        session: an open session.
        gallery: the people of the trunk of these appearances.
        appearances: N appearances; they leave the person that they have, unless it is the best again.
        corrections: the active corrections; None where no correction concerns these appearances.
        carried: (N,) people that they have under another trunk, -1 for none.
    """
    constraints = _constraints(session, appearances, corrections)
    if carried is not None:
        constraints = with_carried(constraints, carried)
    assignment = _assign(session, gallery, appearances, constraints)
    placement = _allocate(session, assignment)
    sums = GalleryPeople.of(placement.person, appearances.embeddings, appearances.quality)
    is_new = np.isin(sums.person, placement.made)
    insert_people(session, gallery.trunk_id, sums[is_new])
    move_appearances(session, appearances.appearance, placement.person)
    if (appearances.person >= 0).any():  # the people that they leave have to be summed up again
        refresh_people(session, gallery.trunk_id, np.concatenate([appearances.person, placement.person]))
    else:
        more = sums[~is_new]
        store_sums(session, gallery.trunk_id, sum_up(gallery.find(more.person), more))
        _store_merge_candidates(session, gallery.trunk_id, assignment.merge_candidates)
    return placement


def move_appearances(session: Session, appearances: Ids, people: Ids) -> None:
    """Write the person of appearances."""
    session.execute(
        text("""UPDATE appearance SET person_id = pair.person_id
                FROM unnest(cast(:appearances AS bigint[]), cast(:people AS bigint[])) AS pair(appearance_id, person_id)
                WHERE appearance.appearance_id = pair.appearance_id"""),
        {"appearances": appearances.tolist(), "people": people.tolist()},
    )


def _constraints(
    session: Session, appearances: StoredAppearances, corrections: ReplayedCorrections | None
) -> Constraints:
    if corrections is None:
        return Constraints.none(len(appearances))
    person = people_of(session, corrections.appearance)
    person[np.isin(corrections.appearance, appearances.appearance)] = -1
    return constraints_for(corrections, appearances.appearance, person)


def _assign(session: Session, gallery: Gallery, appearances: StoredAppearances, constraints: Constraints) -> Assignment:
    """Assign against the gallery; read it again where a chosen person is no longer in the database."""
    sightings = _sightings(session, gallery.trunk_id, appearances)
    while True:
        people = gallery.refresh(session)
        found = assign(appearances, [people], sightings=sightings, constraints=constraints)
        chosen = np.unique(np.concatenate([found.person[found.person >= 0], found.merge_candidates.ravel()]))
        statement = text("SELECT count(*) FROM person WHERE person_id = ANY(:ids)")
        if session.execute(statement, {"ids": chosen.tolist()}).scalar_one() == len(chosen):
            return found
        gallery.forget()


def _sightings(session: Session, trunk_id: int, appearances: StoredAppearances) -> Sightings:
    """Read the sightings of other appearances in the same files, between the first and last time of these."""
    media, file = np.unique(appearances.media, return_inverse=True)
    first, last = np.full(len(media), np.inf), np.full(len(media), -np.inf)
    np.minimum.at(first, file, appearances.start_seconds)
    np.maximum.at(last, file, appearances.end_seconds)
    spans = {"media": media.tolist(), "first": first.tolist(), "last": last.tolist()}
    bounds = spans | {"trunk_id": trunk_id, "dimension": EMBEDDING_DIMENSION}
    seen = StoredAppearances.from_rows(read_rows(session, _IN_VIEW, COLUMN_TYPES, bounds))
    seen = seen[~np.isin(seen.appearance, appearances.appearance)]
    return Sightings(
        person=seen.person,
        media=seen.media,
        start_seconds=seen.start_seconds,
        end_seconds=seen.end_seconds,
        embeddings=seen.embeddings,
        quality=seen.quality,
    )


def _allocate(session: Session, assignment: Assignment) -> Placement:
    """Allocate ids for the new people of an assignment."""
    count = int(assignment.newcomer.max(initial=-1)) + 1
    made = np.array(allocate_ids(session, "person", count), np.int64)
    person = assignment.person.copy()
    new = assignment.newcomer >= 0
    person[new] = made[assignment.newcomer[new]]
    return Placement(person, made)


def _store_merge_candidates(session: Session, trunk_id: int, pairs: Ids) -> None:
    if not len(pairs):
        return
    session.execute(
        text("""INSERT INTO person_alike (first_person_id, second_person_id, trunk_id)
                SELECT p.*, :trunk_id FROM unnest(cast(:first AS bigint[]), cast(:second AS bigint[])) AS p
                ON CONFLICT DO NOTHING"""),
        {"first": pairs[:, 0].tolist(), "second": pairs[:, 1].tolist(), "trunk_id": trunk_id},
    )
