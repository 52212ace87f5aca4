"""Identify stage: gives stored appearances their people, a batch at a time, by one worker at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from db.copy import allocate_ids, copy_rows
from worker.identify import AppearanceEmbeddings, KnownPeople, Sightings, assign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Row
    from sqlalchemy.orm import Session, sessionmaker

    from worker.identify import Assignment

IDENTIFY_LOCK = 0x70656F70  # "peop": two workers that named the same stranger at once would make two people of one
BATCH_APPEARANCES = 2000  # per transaction
BLOCK_APPEARANCES = 50_000  # known appearances in memory at a time: 25 MB of embeddings
PAUSE_FACTOR = 10  # identifying takes at most a tenth of a worker's time while it analyses
LEAST_PAUSE_SECONDS = 2.0


class Identifier:
    """Identifies what is pending, now and then while work goes on and fully at its end."""

    def __init__(self, sessions: sessionmaker[Session], release_id: int) -> None:
        self._sessions = sessions
        self._release_id = release_id
        self._next_at = time.monotonic() + LEAST_PAUSE_SECONDS

    def now_and_then(self) -> None:
        """Identify one batch, unless that was done a moment ago or another worker is at it."""
        started = time.monotonic()
        if started < self._next_at:
            return
        with self._sessions.begin() as session:
            if _lock(session, wait=False):
                identify_pending(session, self._release_id)
        spent = time.monotonic() - started
        self._next_at = time.monotonic() + max(LEAST_PAUSE_SECONDS, PAUSE_FACTOR * spent)

    def finish(self) -> int:
        """Identify everything that is pending; returns how many appearances got a person."""
        total = 0
        while True:
            with self._sessions.begin() as session:
                _lock(session, wait=True)
                done = identify_pending(session, self._release_id)
            total += done
            if not done:
                return total


def _lock(session: Session, *, wait: bool) -> bool:
    if wait:
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": IDENTIFY_LOCK})
        return True
    return bool(session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": IDENTIFY_LOCK}).scalar_one())


def identify_pending(session: Session, release_id: int) -> int:
    """Give the oldest appearances without a person one, known or new; the caller holds the lock.

    Returns:
        How many there were, at most BATCH_APPEARANCES.
    """
    rows = session.execute(
        text("""SELECT appearance_id, cast(embedding AS real[]) AS embedding, quality, media_id,
                       start_seconds, end_seconds
                FROM appearance WHERE release_id = :release_id AND person_id IS NULL AND embedding IS NOT NULL
                ORDER BY appearance_id LIMIT :limit"""),
        {"release_id": release_id, "limit": BATCH_APPEARANCES},
    ).all()
    if not rows:
        return 0
    new = AppearanceEmbeddings(
        embeddings=np.array([row.embedding for row in rows], np.float32),
        quality=np.array([row.quality for row in rows], np.float32),
        media=np.array([row.media_id for row in rows], np.int64),
        start_seconds=np.array([row.start_seconds for row in rows], np.float64),
        end_seconds=np.array([row.end_seconds for row in rows], np.float64),
    )
    sightings = _sightings(session, release_id, np.unique(new.media))
    assignment = assign(new, _known(session, release_id), sightings=sightings)
    _write(session, release_id, [int(row.appearance_id) for row in rows], assignment)
    return len(rows)


def _known(session: Session, release_id: int) -> Iterator[KnownPeople]:
    """Read the people that have appearances, block by block, each person whole."""
    statement = text("""SELECT person_id, cast(embedding AS real[]) AS embedding, quality FROM appearance
                        WHERE release_id = :release_id AND person_id IS NOT NULL AND embedding IS NOT NULL
                        ORDER BY person_id""").execution_options(yield_per=5000)
    block: list[Row[tuple[int, list[float], float]]] = []
    for row in session.execute(statement, {"release_id": release_id}):
        if len(block) >= BLOCK_APPEARANCES and row.person_id != block[-1].person_id:
            yield _people(block)
            block = []
        block.append(row)
    if block:
        yield _people(block)


def _people(block: Sequence[Row[tuple[int, list[float], float]]]) -> KnownPeople:
    return KnownPeople.of(
        np.array([row.person_id for row in block], np.int64),
        np.array([row.embedding for row in block], np.float32),
        np.array([row.quality for row in block], np.float32),
    )


def _sightings(session: Session, release_id: int, media: NDArray[np.int64]) -> Sightings:
    rows = session.execute(
        text("""SELECT person_id, media_id, start_seconds, end_seconds FROM appearance
                WHERE release_id = :release_id AND person_id IS NOT NULL AND media_id = ANY(:media)"""),
        {"release_id": release_id, "media": media.tolist()},
    ).all()
    return Sightings(
        person=np.array([row.person_id for row in rows], np.int64),
        media=np.array([row.media_id for row in rows], np.int64),
        start_seconds=np.array([row.start_seconds for row in rows], np.float64),
        end_seconds=np.array([row.end_seconds for row in rows], np.float64),
    )


def _write(session: Session, release_id: int, appearance_ids: list[int], assignment: Assignment) -> None:
    newcomers = int(assignment.newcomer.max(initial=-1)) + 1
    ids = np.array(allocate_ids(session, "person", newcomers), np.int64)
    copy_rows(session, "person", ("person_id", "release_id"), [(int(person_id), release_id) for person_id in ids])
    people = assignment.person.copy()
    new = assignment.newcomer >= 0
    people[new] = ids[assignment.newcomer[new]]
    session.execute(
        text("""UPDATE appearance SET person_id = pair.person_id
                FROM unnest(cast(:appearances AS bigint[]), cast(:people AS bigint[])) AS pair(appearance_id, person_id)
                WHERE appearance.appearance_id = pair.appearance_id"""),
        {"appearances": appearance_ids, "people": people.tolist()},
    )
