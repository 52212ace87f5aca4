"""Name assignment: a name belongs to the person with most of the appearances that a user gave it to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

from worker.identity.corrections.conflicts import people_of_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from worker.identity.corrections.replay import ReplayedCorrections

    Ids = NDArray[np.int64]


def people_of(session: Session, appearances: Ids) -> Ids:
    """Return the (N,) person of each of N appearances, -1 for none; the ids must ascend."""
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


def assign_names(corrections: ReplayedCorrections, person: Ids) -> dict[int, str]:
    """Return the name of each person that has one.

    Args:
        corrections: the active corrections.
        person: (M,) person of each appearance in ``corrections``, -1 for none.

    Returns:
        Name by person; of several that would go to one person, the one given last.
    """
    named = corrections.named_by >= 0
    bearers = people_of_groups(corrections.named_by[named], person[named])
    return {int(who): corrections.active[place].name or "" for place, who in enumerate(bearers) if who >= 0}


def store_names(session: Session, corrections: ReplayedCorrections, person: Ids) -> None:
    """Write the names of people, and delete them from all others; the caller holds the lock of people.

    A person has one name under all trunks. A name all of whose anchors are lost for now (their files are being analysed
    again) stays where it is.

    Args:
        session: an open session.
        corrections: the active corrections.
        person: (M,) person of each appearance in ``corrections``, -1 for none.
    """
    names = assign_names(corrections, person)
    waiting = [one.name for one in corrections.active if one.name and not len(one.subject)]
    session.execute(
        text("""UPDATE person SET name = NULL
                WHERE name IS NOT NULL AND NOT (person_id = ANY(:bearers)) AND NOT (name = ANY(:waiting))"""),
        {"bearers": list(names), "waiting": waiting},
    )
    session.execute(
        text("""UPDATE person SET name = called.name
                FROM unnest(cast(:people AS bigint[]), cast(:names AS text[])) AS called(person_id, name)
                WHERE person.person_id = called.person_id AND person.name IS DISTINCT FROM called.name"""),
        {"people": list(names), "names": list(names.values())},
    )
