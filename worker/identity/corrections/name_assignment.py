"""Who bears which name: the person that has most of the appearances to which a human gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.identity.corrections.conflicts import group_people

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from worker.identity.corrections.replay import ReplayedCorrections

    Ids = NDArray[np.int64]


def people_of(session: Session, appearances: Ids) -> Ids:
    """(N,) person of each of N appearances, -1 for none; the ids ascend."""
    people = np.full(len(appearances), -1, np.int64)
    if len(appearances):
        found = session.execute(
            text("""SELECT appearance_id, person_id FROM appearance
                    WHERE appearance_id = ANY(:ids) AND person_id IS NOT NULL"""),
            {"ids": appearances.tolist()},
        ).all()
        rows = np.searchsorted(appearances, np.array([row.appearance_id for row in found], np.int64))
        people[rows] = [row.person_id for row in found]
    return people


def assign_names(said: ReplayedCorrections, person: Ids) -> dict[int, str]:
    """Say who bears which name.

    Args:
        said: what humans said.
        person: (M,) person of each appearance in ``said``, -1 for none.

    Returns:
        Name by person; of several that would go to one person, the one given last.
    """
    named = said.naming >= 0
    bearers = group_people(said.naming[named], person[named])
    return {int(who): said.words[place].name or "" for place, who in enumerate(bearers) if who >= 0}


def store_names(session: Session, release_id: int, said: ReplayedCorrections, person: Ids) -> None:
    """Give names to who bears them and take them from all others; the caller holds the lock.

    A name all of whose places are lost for now (their files are being analysed again) stays where it is.

    Args:
        session: an open session.
        release_id: the release whose people they are.
        said: what humans said.
        person: (M,) person of each appearance in ``said``, -1 for none.
    """
    bearers = assign_names(said, person)
    waiting = [word.name for word in said.words if word.name and not len(word.subject)]
    session.execute(
        text("""UPDATE person SET name = NULL
                WHERE release_id = :release_id AND name IS NOT NULL
                  AND NOT (person_id = ANY(:bearers)) AND NOT (name = ANY(:waiting))"""),
        {"release_id": release_id, "bearers": list(bearers), "waiting": waiting},
    )
    session.execute(
        text("""UPDATE person SET name = called.name
                FROM unnest(cast(:people AS bigint[]), cast(:names AS text[])) AS called(person_id, name)
                WHERE person.person_id = called.person_id AND person.name IS DISTINCT FROM called.name"""),
        {"people": list(bearers), "names": list(bearers.values())},
    )
