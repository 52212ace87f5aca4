"""Costs of the registered releases, and their coverage of the archive.

Shares are counted over a sample of the blocks of each table, so that the answer takes seconds however large the archive
is; a small table is read whole, and then they are exact.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import text

from worker.ledger.releases import find_previous
from worker.releases.records import read_stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from db.schema.release_tables import LayerKind
    from worker.storage.release_store import ReleaseStore

SAMPLE_BLOCKS = 256  # of 8 kB, of a table: about 12,000 faces, which take under a second for a release
Alias = Literal["active", "candidate", "previous", "retired"]

_BLOCKS = text("SELECT greatest(1, pg_relation_size(cast(:name AS regclass)) / current_setting('block_size')::int)")
_LAYERS = text("""
    SELECT l.layer_id, l.kind, l.task, l.fingerprint, array_agg(r.release_id ORDER BY r.release_id) AS releases
    FROM release r JOIN release_reading o USING (release_id)
    CROSS JOIN LATERAL (VALUES (r.finder_id), (r.trunk_id), (o.head_id), (o.reading_id)) AS c (layer_id)
    JOIN layer l ON l.layer_id = c.layer_id
    WHERE r.retired_at IS NULL
    GROUP BY l.layer_id""")
_RELEASES = text("""
    SELECT release_id, name, active, alias, created_at, retire_at, retired_at, code_version FROM release
    ORDER BY release_id""")
_FILES = text("""
    SELECT finder_id, count(*) AS files, (SELECT count(DISTINCT media_id) FROM analysis WHERE is_current) AS all_files
    FROM analysis WHERE is_current GROUP BY finder_id""")
_FACES = text("""
    WITH sampled AS MATERIALIZED (
        SELECT f.face_id, a.finder_id FROM face AS f TABLESAMPLE SYSTEM (:percent) JOIN analysis a USING (analysis_id)
        WHERE f.dropped_reason IS NULL AND a.is_current),
    wanted AS MATERIALIZED (
        SELECT r.release_id, r.finder_id, r.trunk_id, array_agg(o.reading_id) FILTER (WHERE o.reading_id IS NOT NULL)
                                                      AS readings
        FROM release r LEFT JOIN release_reading o USING (release_id) WHERE r.retired_at IS NULL
        GROUP BY r.release_id)
    SELECT w.release_id, count(*) AS faces,
           count(*) FILTER (WHERE EXISTS (SELECT FROM face_embedding e
                                          WHERE e.face_id = s.face_id AND e.trunk_id = w.trunk_id)
               AND (SELECT count(*) FROM prediction p WHERE p.face_id = s.face_id AND p.reading_id = ANY(w.readings))
                   = coalesce(cardinality(w.readings), 0)) AS whole
    FROM wanted w JOIN sampled s USING (finder_id) GROUP BY w.release_id""")
# By table with rows of layers: their layers in a sample of it. The last two hang on rows of the others.
_ROWS: Mapping[str, str] = {
    "face": """SELECT a.finder_id AS layer_id, count(*) AS rows
               FROM face AS f TABLESAMPLE SYSTEM (:percent) JOIN analysis a USING (analysis_id) GROUP BY 1""",
    "face_embedding": "SELECT trunk_id AS layer_id, count(*) AS rows FROM face_embedding TABLESAMPLE SYSTEM (:percent) "
    "GROUP BY 1",
    "prediction": "SELECT reading_id AS layer_id, count(*) AS rows FROM prediction TABLESAMPLE SYSTEM (:percent) "
    "GROUP BY 1",
    "appearance": "SELECT trunk_id AS layer_id, count(*) AS rows FROM appearance TABLESAMPLE SYSTEM (:percent) "
    "GROUP BY 1",
    "appearance_prediction": "SELECT reading_id AS layer_id, count(*) AS rows FROM appearance_prediction "
    "TABLESAMPLE SYSTEM (:percent) GROUP BY 1",
}
_SIZE = text("SELECT pg_total_relation_size(cast(:name AS regclass))")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """A layer of a release, and the room of its rows."""

    kind: LayerKind
    task: str | None
    fingerprint: str
    byte_size: int
    """Of its rows with their share of the indexes."""
    shared_with: tuple[int, ...]
    """Other releases that were not retired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCost:
    """A release: its state, how much of the archive it covers, and what it costs."""

    release_id: int
    release: str
    aliases: tuple[Alias, ...]
    created_at: datetime
    retire_at: datetime | None
    """When upkeep will retire it, unless it is activated before."""
    retired_at: datetime | None
    code_version: str
    covered: float | None
    """Share of the kept faces of all files that have all of its rows; None where nothing was analysed."""
    own_bytes: int
    """Of rows that would go if it was retired."""
    shared_bytes: int
    """Of rows that other releases show, too."""
    store_bytes: int
    """Of its folder in the release store."""
    is_estimate: bool
    """Whether coverage and rows were counted over a sample."""


def read_costs(session: Session, store: ReleaseStore) -> list[ReleaseCost]:
    """Return all releases, the oldest first.

    Raises:
        RetryableError: the release store is unreachable.
    """
    layers, is_sample = _read_layers(session)
    covered, is_covered_sample = _read_covered(session)
    previous = find_previous(session)
    stored = {one.release_id: store.count_bytes(one.store_name) for one in read_stored(session)}
    return [
        ReleaseCost(
            release_id=row.release_id,
            release=row.name,
            aliases=_aliases(row, previous),
            created_at=row.created_at,
            retire_at=row.retire_at,
            retired_at=row.retired_at,
            code_version=row.code_version,
            covered=covered.get(row.release_id),
            own_bytes=sum(one.byte_size for one in layers.get(row.release_id, ()) if not one.shared_with),
            shared_bytes=sum(one.byte_size for one in layers.get(row.release_id, ()) if one.shared_with),
            store_bytes=stored.get(row.release_id, 0),
            is_estimate=is_sample or is_covered_sample,
        )
        for row in session.execute(_RELEASES)
    ]


def read_layers(session: Session, release_id: int) -> list[LayerCost]:
    """Return the layers of a release: finder, trunk, then heads and readings by task."""
    found = _read_layers(session)[0].get(release_id, [])
    return sorted(found, key=lambda one: (one.task or "", ("finder", "trunk", "head", "reading").index(one.kind)))


def _read_layers(session: Session) -> tuple[dict[int, list[LayerCost]], bool]:
    """Return the layers by release, and whether their sizes are estimates."""
    sizes: Counter[int] = Counter()
    is_sample = False
    for table, statement in _ROWS.items():
        percent = _percent(session, table)
        is_sample |= percent < 100
        rows = session.execute(text(statement), {"percent": percent}).all()
        total, size = sum(row.rows for row in rows), session.execute(_SIZE, {"name": table}).scalar_one()
        sizes.update({row.layer_id: round(size * row.rows / total) for row in rows})
    layers: dict[int, list[LayerCost]] = {}
    for row in session.execute(_LAYERS):
        users = sorted(set(row.releases))
        for release_id in users:
            cost = LayerCost(
                kind=row.kind,
                task=row.task,
                fingerprint=row.fingerprint,
                byte_size=sizes[row.layer_id],
                shared_with=tuple(one for one in users if one != release_id),
            )
            layers.setdefault(release_id, []).append(cost)
    return layers, is_sample


def _read_covered(session: Session) -> tuple[dict[int, float], bool]:
    """Return the share of the archive that each release covers, and whether it is an estimate."""
    files = {row.finder_id: row.files / row.all_files for row in session.execute(_FILES)}
    percent = _percent(session, "face")
    faces = {row.release_id: row.whole / row.faces for row in session.execute(_FACES, {"percent": percent})}
    finders = text("SELECT release_id, finder_id FROM release WHERE retired_at IS NULL")
    covered = {
        row.release_id: files.get(row.finder_id, 0.0) * faces.get(row.release_id, 1.0)
        for row in session.execute(finders)
        if files
    }
    return covered, percent < 100


def _percent(session: Session, table: str) -> float:
    """Return the share of a table's blocks to read."""
    blocks = int(session.execute(_BLOCKS, {"name": table}).scalar_one())
    return min(100.0, 100.0 * SAMPLE_BLOCKS / blocks)


def _aliases(row: Row[tuple[Any, ...]], previous: int | None) -> tuple[Alias, ...]:
    states: dict[Alias, bool] = {
        "active": row.active,
        "candidate": row.alias == "candidate",
        "previous": row.release_id == previous,
        "retired": row.retired_at is not None,
    }
    return tuple(alias for alias, holds in states.items() if holds)
