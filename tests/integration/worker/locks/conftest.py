"""Records which rows each statement of a transaction locks, and checks the order of ``worker.ledger.locks``.

A row's system columns show which transaction locked or wrote it. They are read before and after each statement, on the
same connection, so that locks of foreign keys, COPY and cascades are seen as well.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from sqlalchemy import event

RANKS = {"media_file": 2, "analysis": 3, "unit": 4}
KEYS = {
    "media_file": "media_id", "analysis": "analysis_id", "unit": "unit_id", "job": "job_id", "release": "release_id",
    "person": "person_id", "appearance": "appearance_id", "face": "face_id", "correction": "correction_id",
    "regroup_proposal": "proposal_id",
}  # fmt: skip
LAST = 5  # rank of all other tables
FACES = "face"  # of a file that is being finished: no transaction that holds a file waits for them
_ROWS = " UNION ALL ".join(
    f"SELECT '{table}', {key}, ctid::text, xmin::text, xmax::text FROM facet.{table}" for table, key in KEYS.items()
)
_WAITS_NEVER = re.compile(r"SKIP LOCKED|NOWAIT")
_TAKES = re.compile(r"FOR (NO KEY )?UPDATE|^\s*(WITH\b.*\b)?(UPDATE|DELETE)\b|DO UPDATE", re.DOTALL)
_ORDERED = re.compile(r"^\s*SELECT\b.*ORDER BY (\w+\.)?(\w+)\s+FOR NO KEY UPDATE", re.DOTALL)
_LOCKS = re.compile(r"^\s*SELECT\b.*FOR (NO KEY )?UPDATE", re.DOTALL)
_READS = re.compile(r"(?:FROM|JOIN) (?:facet\.)?([a-z_]+)")
_TOO_STRONG = re.compile(r"FOR UPDATE|^\s*DELETE")


@dataclass
class _Transaction:
    """Locks that one transaction holds."""

    before: set[tuple[str, int]]
    """Rows that were there when it began."""
    seen: dict[tuple[str, int], str | None] = field(default_factory=dict)
    """Rows that it locked or changed in any mode, and their versions."""
    strong: set[tuple[str, int]] = field(default_factory=set)
    """Rows that it locked as an update does."""
    log: list[str] = field(default_factory=list)


class Recorder:
    """Listens to an engine; ``faults`` has the statements that broke the order, ``taken`` the locked tables."""

    def __init__(self, engine):
        self.engine = engine
        self.open = {}
        self.faults = []
        self.taken = defaultdict(set)

    def __enter__(self):
        self._each(event.listen)
        return self

    def __exit__(self, *error):
        self._each(event.remove)

    def _each(self, act):
        act(self.engine, "before_cursor_execute", self._before)
        act(self.engine, "after_cursor_execute", self._after)
        act(self.engine, "commit", self._end)
        act(self.engine, "rollback", self._forget)

    def _before(self, connection, cursor, statement, *facts):
        self._look(connection, "COPY")  # by the driver's own cursor, so that no event reports it

    def _after(self, connection, cursor, statement, *facts):
        self._look(connection, statement)

    def _end(self, connection):
        self._look(connection, "COPY")
        self.open.pop(id(connection.connection.driver_connection), None)

    def _forget(self, connection):
        self.open.pop(id(connection.connection.driver_connection), None)

    def _look(self, connection, statement):
        driver = connection.connection.driver_connection
        with driver.cursor() as cursor:
            mine = cursor.execute("SELECT pg_current_xact_id_if_assigned()::xid::text").fetchone()[0]
            rows = cursor.execute(_ROWS).fetchall()
        now = {(table, key): version for table, key, version, *_ in rows}
        held = self.open.setdefault(id(driver), _Transaction(set(now)))
        touched = {(table, key) for table, key, _, *marks in rows if mine is not None and mine in marks}
        touched = (touched & held.before) | (held.before - set(now))  # locked or changed, and deleted; not inserted
        self._judge(held, statement, {row: now.get(row) for row in touched})
        held.seen |= {row: now.get(row) for row in touched}

    def _judge(self, held, statement, touched):
        takes = _TAKES.search(statement) is not None
        fresh = {row for row, version in touched.items() if held.seen.get(row, "") != version}
        if _LOCKS.search(statement):  # in a stronger mode than a foreign key had, which shows in no column
            fresh |= {row for row in touched if row[0] in _READS.findall(statement)}
        fresh -= held.strong
        if not fresh:
            return
        tables = sorted({table for table, _ in fresh})
        if not takes:
            held.log.append(f"references {', '.join(tables)}")
            return
        if _WAITS_NEVER.search(statement) is None:
            self._check(held, statement, fresh)
        held.strong |= fresh
        held.log.append(f"locks {', '.join(tables)}")
        for table in tables:
            self.taken[table].add(re.sub(r"\s+", " ", statement).strip()[:80])

    def _check(self, held, statement, fresh):
        highest = max((RANKS.get(table, LAST) for table, _ in held.strong if table != FACES), default=0)
        for table in {table for table, _ in fresh} & set(RANKS):
            new = [key for name, key in fresh if name == table]
            had = [key for name, key in held.strong if name == table]
            ordered = _ORDERED.search(statement)
            if RANKS[table] < highest:
                self._blame(held, statement, f"{table} after a table that comes later")
            if had and min(new) < max(had):
                self._blame(held, statement, f"{table} {min(new)} after {max(had)}")
            if len(new) > 1 and (ordered is None or ordered[2] != KEYS[table]):
                self._blame(held, statement, f"{len(new)} rows of {table} in no order")
            if _TOO_STRONG.search(statement):
                self._blame(held, statement, f"{table} in a mode for which foreign keys wait")

    def _blame(self, held, statement, what):
        text = re.sub(r"\s+", " ", statement).strip()
        self.faults.append(f"{what}: {text[:160]} (before: {'; '.join(held.log) or 'nothing'})")


@pytest.fixture
def recorder(archive):
    return Recorder(archive.sessions.kw["bind"])
