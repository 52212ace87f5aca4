"""Layers of the releases that a database holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.migrations.to_layers.fingerprints import layers_of, pipeline_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from db.migrations.to_layers.fingerprints import FoundLayer, Layers

# The active release first, then the newest.
_RELEASES = text("""
SELECT r.release_id, r.fingerprint, r.manifest, r.code_version,
       EXISTS (SELECT FROM facet.analysis AS a WHERE a.release_id = r.release_id) AS has_rows
FROM facet.release AS r
ORDER BY r.active DESC, r.release_id DESC
""")

_INSERT = text("""
INSERT INTO facet.layer (parent_id, kind, fingerprint, task, labels, spec)
SELECT (SELECT layer_id FROM facet.layer WHERE fingerprint = :parent), :kind, :fingerprint, :task, :labels,
       cast(:spec AS jsonb)
ON CONFLICT (fingerprint) DO NOTHING
""")

_CHOOSE = text("""
UPDATE facet.release
SET finder_id = (SELECT layer_id FROM facet.layer WHERE fingerprint = :finder),
    trunk_id = (SELECT layer_id FROM facet.layer WHERE fingerprint = :trunk)
WHERE release_id = :release_id
""")

_READ = text("""
INSERT INTO facet.release_reading (release_id, task, head_id, reading_id)
SELECT :release_id, :task, (SELECT layer_id FROM facet.layer WHERE fingerprint = :head),
       (SELECT layer_id FROM facet.layer WHERE fingerprint = :reading)
""")


def store_layers(connection: Connection) -> None:
    """Insert the layers of all releases, and what each of them chose.

    Two releases of the version before that would share a finder have analysed the same files twice, each with its own
    people. So the active one keeps the fingerprint, else the newest that has analyses. Another one that has analyses
    gets layers of its own, and its rows stay what they were.

    Args:
        connection: an open connection; the caller commits.
    """
    taken: set[str] = set()
    for release in connection.execute(_RELEASES).all():
        layers = _layers(release)
        if release.has_rows and layers.finder.fingerprint in taken:
            layers = _layers(release, apart=release.fingerprint)
        if release.has_rows:
            taken.add(layers.finder.fingerprint)
        for layer in layers.all:
            connection.execute(_INSERT, _row(layer))
        _choose(connection, release.release_id, layers)


def _layers(release: Row[Any], apart: str | None = None) -> Layers:
    return layers_of(release.manifest, pipeline_of(release.code_version), apart)


def _row(layer: FoundLayer) -> dict[str, object]:
    return {
        "parent": layer.parent,
        "kind": layer.kind,
        "fingerprint": layer.fingerprint,
        "task": layer.task,
        "labels": layer.labels,
        "spec": json.dumps(layer.spec),
    }


def _choose(connection: Connection, release_id: int, layers: Layers) -> None:
    chosen = {"release_id": release_id, "finder": layers.finder.fingerprint, "trunk": layers.trunk.fingerprint}
    connection.execute(_CHOOSE, chosen)
    for task, head in layers.heads.items():
        reading = layers.readings[task].fingerprint
        connection.execute(
            _READ, {"release_id": release_id, "task": task, "head": head.fingerprint, "reading": reading}
        )
