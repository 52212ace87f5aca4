"""Gives appearances a person, among those known or a new one, and writes what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.base import EMBEDDING_DIMENSION
from db.bulk.arrays import read_rows
from db.bulk.rows import allocate_ids
from worker.identity.corrections.conflicts import Ruling, rule
from worker.identity.corrections.name_assignment import people_of
from worker.identity.gallery import insert_people, refresh_people, store_sums, sum_up
from worker.identity.grouping.assign import AppearanceEmbeddings, GalleryPeople, assign
from worker.identity.grouping.constraints import Constraints
from worker.identity.grouping.in_view import Sightings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from db.bulk.arrays import ColumnType
    from worker.identity.corrections.replay import ReplayedCorrections
    from worker.identity.gallery import Gallery
    from worker.identity.grouping.assign import Assignment

    Ids = NDArray[np.int64]

ROW: Mapping[str, ColumnType] = {
    "appearance_id": "bigint", "person_id": "bigint", "media_id": "bigint", "start_seconds": "double precision",
    "end_seconds": "double precision", "quality": "real", "embedding": "vector",
}  # fmt: skip
ROW_COLUMNS = (
    "s.appearance_id, coalesce(s.person_id, -1), s.media_id, s.start_seconds, s.end_seconds, s.quality, s.embedding"
)
_THESE = f"""
    SELECT {ROW_COLUMNS} FROM facet.appearance s
    WHERE s.appearance_id = ANY(%(appearances)s) ORDER BY s.appearance_id"""  # noqa: S608 - constant columns
_SIGHTINGS: Mapping[str, ColumnType] = {
    "appearance_id": "bigint", "person_id": "bigint", "media_id": "bigint", "start_seconds": "double precision",
    "end_seconds": "double precision", "quality": "real", "embedding": "vector",
}  # fmt: skip
_SEEN = """
    SELECT s.appearance_id, s.person_id, s.media_id, s.start_seconds, s.end_seconds, s.quality,
           coalesce(s.embedding, array_fill(0::real, ARRAY[%(dimension)s])::vector)
    FROM unnest(%(media)s::bigint[], %(first)s::float8[], %(last)s::float8[]) AS span (media_id, first, last)
    JOIN facet.appearance s ON s.media_id = span.media_id AND s.start_seconds <= last AND s.end_seconds >= first
    JOIN facet.analysis a USING (analysis_id)
    WHERE s.release_id = %(release_id)s AND s.person_id IS NOT NULL AND a.is_current"""


def read_these(session: Session, appearances: Ids) -> NDArray[np.void]:
    """Read appearances by id.

    Returns:
        Structured array with the fields of `ROW`, in order of id.
    """
    return read_rows(session, _THESE, ROW, {"appearances": appearances.tolist()})


def embeddings_of(rows: NDArray[np.void]) -> AppearanceEmbeddings:
    """Give rows as identification reads them."""
    return AppearanceEmbeddings(
        embeddings=np.ascontiguousarray(rows["embedding"]),
        quality=rows["quality"],
        media=rows["media_id"],
        start_seconds=rows["start_seconds"],
        end_seconds=rows["end_seconds"],
    )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where N appearances went."""

    person: Ids
    """(N,) the person of each."""
    made: Ids
    """Ids of people who are new."""


def place(session: Session, known: Gallery, rows: NDArray[np.void], said: ReplayedCorrections | None) -> Placement:
    """Give appearances a person, as if they were new; the caller holds the lock.

    Args:
        session: an open session.
        known: the people in memory.
        rows: N appearances with the fields of `ROW`; the person that they have is left, unless it is the best again.
        said: what humans said; None where that has nothing to do with these.
    """
    ruling = _ruling(session, rows, said)
    assignment = _assign(session, known, rows, ruling)
    people, made = _people(session, assignment)
    had = rows["person_id"] >= 0
    sums = GalleryPeople.of(people, rows["embedding"], rows["quality"])
    insert_people(session, known.release_id, sums[np.isin(sums.person, made)])
    move_appearances(session, rows["appearance_id"], people)
    if had.any():  # what they looked like is taken from the people they had
        refresh_people(session, np.concatenate([rows["person_id"], people]))
    else:
        known_already = sums[~np.isin(sums.person, made)]
        store_sums(session, sum_up(known.find(known_already.person), known_already))
        _note_alike(session, assignment.alike)
    return Placement(people, made)


def move_appearances(session: Session, appearances: Ids, people: Ids) -> None:
    """Write the person of appearances."""
    session.execute(
        text("""UPDATE appearance SET person_id = pair.person_id
                FROM unnest(cast(:appearances AS bigint[]), cast(:people AS bigint[])) AS pair(appearance_id, person_id)
                WHERE appearance.appearance_id = pair.appearance_id"""),
        {"appearances": appearances.tolist(), "people": people.tolist()},
    )


def _ruling(session: Session, rows: NDArray[np.void], said: ReplayedCorrections | None) -> Ruling:
    if said is None:
        nobody, nothing = np.full(len(rows), -1, np.int64), np.zeros((0, 2), np.int64)
        return Ruling(constraints=Constraints.none(len(rows)), pinned=nobody, banned=nothing)
    person = people_of(session, said.appearance)
    person[np.isin(said.appearance, rows["appearance_id"])] = -1
    return rule(said, rows["appearance_id"], person)


def _assign(session: Session, known: Gallery, rows: NDArray[np.void], ruling: Ruling) -> Assignment:
    """Assign against the people in memory, read anew if one of them is no longer in the database."""
    new, sightings = embeddings_of(rows), _sightings(session, known.release_id, rows)
    constraints = replace(ruling.constraints, banned=ruling.banned)
    while True:
        people = known.refresh(session)
        found = assign(new, [people], sightings=sightings, constraints=constraints, pinned=ruling.pinned)
        chosen = np.unique(np.concatenate([found.person[found.person >= 0], found.alike.ravel()]))
        statement = text("SELECT count(*) FROM person WHERE person_id = ANY(:ids)")
        if session.execute(statement, {"ids": chosen.tolist()}).scalar_one() == len(chosen):
            return found
        known.forget()


def _sightings(session: Session, release_id: int, rows: NDArray[np.void]) -> Sightings:
    """Where known people are in view in the files of the rows, about their times; the rows themselves left out."""
    media, file = np.unique(rows["media_id"], return_inverse=True)
    first, last = np.full(len(media), np.inf), np.full(len(media), -np.inf)
    np.minimum.at(first, file, rows["start_seconds"])
    np.maximum.at(last, file, rows["end_seconds"])
    spans = {"media": media.tolist(), "first": first.tolist(), "last": last.tolist()}
    bounds = spans | {"release_id": release_id, "dimension": EMBEDDING_DIMENSION}
    seen = read_rows(session, _SEEN, _SIGHTINGS, bounds)
    seen = seen[~np.isin(seen["appearance_id"], rows["appearance_id"])]
    return Sightings(
        person=seen["person_id"],
        media=seen["media_id"],
        start_seconds=seen["start_seconds"],
        end_seconds=seen["end_seconds"],
        embeddings=seen["embedding"],
        quality=seen["quality"],
    )


def _people(session: Session, assignment: Assignment) -> tuple[Ids, Ids]:
    """Give each appearance's person, and the ids of those who are new."""
    count = int(assignment.newcomer.max(initial=-1)) + 1
    ids = np.array(allocate_ids(session, "person", count), np.int64)
    people = assignment.person.copy()
    new = assignment.newcomer >= 0
    people[new] = ids[assignment.newcomer[new]]
    return people, ids


def _note_alike(session: Session, pairs: Ids) -> None:
    if not len(pairs):
        return
    session.execute(
        text("""INSERT INTO person_alike (first_person_id, second_person_id)
                SELECT * FROM unnest(cast(:first AS bigint[]), cast(:second AS bigint[])) ON CONFLICT DO NOTHING"""),
        {"first": pairs[:, 0].tolist(), "second": pairs[:, 1].tolist()},
    )
