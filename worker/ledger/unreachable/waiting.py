"""Search for readable units among many whose files this host cannot read, one window at a time.

A host without the mount of a large job would otherwise examine every unit of it whenever it asks for work. A round
examines the waiting units once, in their order, WINDOW at a call. After a round that found none, only newer units are
examined, until an unreachable place is to be tried again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from db.status.paused import FIRST_WANTED
from worker.ledger.due import FRESH, MINE, READABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

PLACE_SKIP_SECONDS = 60.0  # for which a process takes no unit from a place that it could not read
ROUND_REST_FACTOR = (
    20.0  # a round in vain is repeated after this multiple of its time: it costs a twentieth of it at most
)
WINDOW = 300  # units that one statement examines: some milliseconds

QueuePosition = tuple[int, int, int]
"""A position in the order of waiting units: minus the priority, turn, number."""
START: QueuePosition = (-(1 << 15), 0, 0)
END: QueuePosition = (1 << 15, 0, 0)

_NEWEST = text("SELECT coalesce(max(unit_id), 0) FROM unit")

_LOOK = """
    WITH window_rows AS MATERIALIZED ({rows})
    SELECT u.unit_id, u.priority, u.turn,
           a.state = 'pending' AND u.unit_id <> ALL (cast(:held AS bigint[]))
           AND u.stage = ANY (cast(:stages AS text[])) AND {readable} AND {wanted} AND {mine} AS is_here
    FROM window_rows AS u JOIN analysis AS a USING (analysis_id)"""
_FRESH = f"""SELECT unit_id, analysis_id, priority, turn, stage FROM unit AS u
             WHERE release_id = :release_id AND {FRESH}"""  # noqa: S608 - a constant

# A comparison of rows cannot descend by priority: first the priority of the position, then all lower ones.
_NEXT = text(
    _LOOK.format(
        rows=f"""(({_FRESH} AND priority = :priority AND (turn, unit_id) > (:turn, :unit_id)
                   ORDER BY turn, unit_id LIMIT :window)
                  UNION ALL
                  ({_FRESH} AND priority < :priority ORDER BY priority DESC, turn, unit_id LIMIT :window)
                  LIMIT :window)""",
        readable=READABLE,
        wanted=FIRST_WANTED,
        mine=MINE,
    )
)
_NEW = text(
    _LOOK.format(
        rows=f"({_FRESH} AND unit_id > :newest ORDER BY unit_id LIMIT :window)",
        readable=READABLE,
        wanted=FIRST_WANTED,
        mine=MINE,
    )
)


@dataclass(frozen=True, slots=True)
class Scope:
    """The units among which is searched."""

    release_id: int
    unreachable: tuple[str, ...]
    """Places that this host cannot read."""
    job_id: int | None = None
    """Only units of this job's files; None for all jobs."""


@dataclass(slots=True)
class WindowSearch:
    """Position of a process in its rounds; for one thread."""

    has_ended: bool = False
    """The last call left no unit to examine for now."""
    _after: QueuePosition = START
    _before: QueuePosition = START
    _newest: int | None = None
    """Number of the newest unit that was examined."""
    _found: bool = False
    _began_at: float = 0.0
    _again_at: float = 0.0
    _unreachable: frozenset[str] = frozenset()

    def find(
        self,
        session: Session,
        scope: Scope,
        *,
        limit: int,
        held: Collection[int],
        stages: Collection[str],
    ) -> list[int]:
        """Examine at most one window of older and one of newer units; return the readable ones.

        Args:
            session: of the transaction that leases them.
            scope: release, job, and unreachable places.
            limit: maximum number of units.
            held: units that the worker holds.
            stages: of the units to find.
        """
        facts: dict[str, object] = {
            "release_id": scope.release_id,
            "job_id": scope.job_id,
            "unreachable": list(scope.unreachable),
        }
        facts |= {"held": list(held), "stages": list(stages), "window": WINDOW}
        self._begin(session, frozenset(scope.unreachable))
        self._before = self._after
        found = self._newer(session, facts)[:limit]
        self.has_ended = self._after == END
        if len(found) < limit and not self.has_ended:
            found += self._next(session, facts, limit - len(found))
        self._found = self._found or bool(found)
        return found

    def is_vain(self, unreachable: Collection[str]) -> bool:
        """Whether the last round found nothing and is still valid: it left out no place that is reachable now."""
        return self._after == END and time.monotonic() < self._again_at and self._unreachable <= set(unreachable)

    def restart(self) -> None:
        """Begin another round: units that were passed are waiting again."""
        self._newest, self.has_ended = None, False

    def step_back(self) -> None:
        """Examine the last window again: units of it were returned."""
        self._after, self.has_ended = self._before, False

    def _begin(self, session: Session, unreachable: frozenset[str]) -> None:
        if self._newest is None or (self._after == END and not self.is_vain(unreachable)):
            self._after, self._found = START, False
            self._newest = int(session.execute(_NEWEST).scalar_one())
        if self._after == START:
            self._began_at = time.monotonic()
        if self._after != END:
            self._unreachable = unreachable

    def _newer(self, session: Session, facts: dict[str, object]) -> list[int]:
        """Return newer units that belong before the position of the round."""
        newest = int(session.execute(_NEWEST).scalar_one())
        if newest == self._newest:
            return []
        rows = session.execute(_NEW, facts | {"newest": self._newest}).all()
        self._newest = newest if len(rows) < WINDOW else max(row.unit_id for row in rows)
        return [row.unit_id for row in _sorted(rows) if row.is_here and _place(row) <= self._after]

    def _next(self, session: Session, facts: dict[str, object], limit: int) -> list[int]:
        """Return readable units of the next window, and move the position behind it."""
        place = {"priority": -self._after[0], "turn": self._after[1], "unit_id": self._after[2]}
        rows = _sorted(session.execute(_NEXT, facts | place).all())
        here = [row for row in rows if row.is_here]
        if len(here) > limit:
            self._after = _place(here[limit - 1])
        elif len(rows) == WINDOW:
            self._after = _place(rows[-1])
        else:
            self._end_round(found=self._found or bool(here))
        return [row.unit_id for row in here[:limit]]

    def _end_round(self, *, found: bool) -> None:
        """Begin another round at once if this one found units, else after a rest."""
        self.has_ended = True
        self._after, self._found = START if found else END, False
        now = time.monotonic()
        self._again_at = now + max(PLACE_SKIP_SECONDS, ROUND_REST_FACTOR * (now - self._began_at))


def _place(row: Row[tuple[int, int, int, bool]]) -> QueuePosition:
    return -row.priority, row.turn, row.unit_id


def _sorted(rows: Sequence[Row[tuple[int, int, int, bool]]]) -> list[Row[tuple[int, int, int, bool]]]:
    return sorted(rows, key=_place)
