"""Waiting units whose files this host can read, found a window at a time among those of a place that is unreachable.

A host without the mount of a large job would otherwise look at every unit of it whenever it asks for work. A round goes
through the waiting units once, in their order, some hundred at a call. After a round that found nothing, only units
that came since are looked at, until a place may be there again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.ledger.due import FRESH, READABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

SKIP_SECONDS = 60.0
"""For which a process takes nothing from a place that it could not read."""
REST_SHARE = 20.0
"""Times the length of a round in vain before the next: a process spends at most a twentieth of its time on them."""
WINDOW = 300
"""Units that are looked at in one statement: some milliseconds."""

Place = tuple[int, int, int]
"""In the order of waiting units: minus the priority, turn, number."""
START: Place = (-(1 << 15), 0, 0)
END: Place = (1 << 15, 0, 0)

_NEWEST = text("SELECT coalesce(max(unit_id), 0) FROM unit")

_LOOK = """
    WITH window_rows AS MATERIALIZED ({rows})
    SELECT u.unit_id, u.priority, u.turn,
           a.state = 'pending' AND u.unit_id <> ALL (cast(:held AS bigint[]))
           AND u.stage = ANY (cast(:stages AS text[])) AND {readable} AS is_here
    FROM window_rows AS u JOIN analysis AS a USING (analysis_id)"""
_FRESH = f"""SELECT unit_id, analysis_id, priority, turn, stage FROM unit AS u
             WHERE release_id = :release_id AND {FRESH}"""  # noqa: S608 - a constant

# A comparison of rows cannot descend by priority: that of the place comes first, then all lower ones.
_NEXT = text(
    _LOOK.format(
        rows=f"""(({_FRESH} AND priority = :priority AND (turn, unit_id) > (:turn, :unit_id)
                   ORDER BY turn, unit_id LIMIT :window)
                  UNION ALL
                  ({_FRESH} AND priority < :priority ORDER BY priority DESC, turn, unit_id LIMIT :window)
                  LIMIT :window)""",
        readable=READABLE,
    )
)
_NEW = text(_LOOK.format(rows=f"({_FRESH} AND unit_id > :newest ORDER BY unit_id LIMIT :window)", readable=READABLE))


@dataclass(slots=True)
class WindowSearch:
    """How far a process has looked; for one thread."""

    has_ended: bool = False
    """The last call left nothing to look at for now."""
    _after: Place = START
    _before: Place = START
    _newest: int | None = None
    """Number of the newest unit that a round, or a look at new ones, has covered."""
    _found: bool = False
    _began_at: float = 0.0
    _again_at: float = 0.0
    _unreachable: frozenset[str] = frozenset()

    def find(
        self,
        session: Session,
        release_id: int,
        unreachable: Collection[str],
        *,
        limit: int,
        held: Collection[int],
        stages: Collection[str],
    ) -> list[int]:
        """Look at one window at most of older units and of newer ones; return units that can be read here.

        Args:
            session: of the transaction that leases them.
            release_id: of the worker.
            unreachable: places that it cannot read.
            limit: most units.
            held: units that it has.
            stages: of units that it takes.
        """
        facts = {"release_id": release_id, "unreachable": list(unreachable), "held": list(held), "stages": list(stages)}
        facts |= {"window": WINDOW}
        self._begin(session, frozenset(unreachable))
        self._before = self._after
        found = self._newer(session, facts)[:limit]
        self.has_ended = self._after == END
        if len(found) < limit and not self.has_ended:
            found += self._next(session, facts, limit - len(found))
        self._found = self._found or bool(found)
        return found

    def is_vain(self, unreachable: Collection[str]) -> bool:
        """Whether a round found nothing lately, while no more was unreachable than now."""
        return self._after == END and time.monotonic() < self._again_at and self._unreachable <= set(unreachable)

    def restart(self) -> None:
        """Begin another round: units that were passed wait again."""
        self._newest, self.has_ended = None, False

    def step_back(self) -> None:
        """Look at the last window once more: units of it were given back."""
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
        """Return those that came since and whose turn is before the place that the round has reached."""
        newest = int(session.execute(_NEWEST).scalar_one())
        if newest == self._newest:
            return []
        rows = session.execute(_NEW, facts | {"newest": self._newest}).all()
        self._newest = newest if len(rows) < WINDOW else max(row.unit_id for row in rows)
        return [row.unit_id for row in _sorted(rows) if row.is_here and _place(row) <= self._after]

    def _next(self, session: Session, facts: dict[str, object], limit: int) -> list[int]:
        """Return those of the window behind the place, and move the place behind them."""
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
        """Begin another round if this one found something, else only when a place may be there again."""
        self.has_ended = True
        self._after, self._found = START if found else END, False
        now = time.monotonic()
        self._again_at = now + max(SKIP_SECONDS, REST_SHARE * (now - self._began_at))


def _place(row: Row[tuple[int, int, int, bool]]) -> Place:
    return -row.priority, row.turn, row.unit_id


def _sorted(rows: Sequence[Row[tuple[int, int, int, bool]]]) -> list[Row[tuple[int, int, int, bool]]]:
    return sorted(rows, key=_place)
