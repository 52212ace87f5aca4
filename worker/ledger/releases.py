"""Model releases and their layers: every derived row names the layer that decided it."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from models.layers import layers_of
from worker.errors import UsageError
from worker.types import HeadSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from models.layers import LayerEntry, ReleaseLayers
    from models.manifest import Manifest
    from models.release import Release

# Grows when code changes the results of the same bytes and weights; they then belong to another release.
PIPELINE_VERSION = 3

RELEASES_LOCK = 0x72656C  # "rel": one transaction at a time makes a release the active one

_RELEASES = text("""
    SELECT release_id, release, active, weights_sha256, code_version, created_at FROM releases ORDER BY created_at""")
_FIND = text("SELECT release_id, retired_at FROM release WHERE fingerprint = :fingerprint")
_INSERT = text("""
    INSERT INTO release (fingerprint, name, weights_sha256, code_version, metrics, manifest, finder_id, trunk_id)
    VALUES (:fingerprint, :name, :weights, :code, cast(:metrics AS jsonb), cast(:manifest AS jsonb), :finder, :trunk)
    RETURNING release_id""")
# No ON CONFLICT: it would use up a number of two bytes for every layer that is there.
_INSERT_LAYER = text("""
    INSERT INTO layer (kind, fingerprint, parent_id, task, labels, spec)
    SELECT :kind, :fingerprint, (SELECT layer_id FROM layer WHERE fingerprint = :parent), :task,
           cast(:labels AS text[]), cast(:spec AS jsonb)
    WHERE NOT EXISTS (SELECT FROM layer WHERE fingerprint = :fingerprint)""")
_LAYERS = text("SELECT fingerprint, layer_id FROM layer WHERE fingerprint = ANY(:fingerprints)")
_INSERT_READING = text("""
    INSERT INTO release_reading (release_id, task, head_id, reading_id) VALUES (:release_id, :task, :head, :reading)""")
_INSERT_STATE = text("INSERT INTO trunk_state (trunk_id) VALUES (:trunk) ON CONFLICT DO NOTHING")
_IDS = text("""
    SELECT release_id, name, finder_id, trunk_id, coalesce(tasks, '{}') AS tasks, coalesce(readings, '{}') AS readings
    FROM release AS r
    CROSS JOIN LATERAL (SELECT array_agg(task ORDER BY task) AS tasks, array_agg(reading_id ORDER BY task) AS readings
                        FROM release_reading AS o WHERE o.release_id = r.release_id) AS own
    WHERE CASE WHEN cast(:release_id AS bigint) IS NULL THEN active ELSE release_id = :release_id END""")
_NAMED = text("""
    SELECT release_id, name, retired_at FROM release WHERE name = :name OR cast(release_id AS text) = :name""")
_RECORD = text("""
    INSERT INTO release_history (who, action, release_id, from_release_id, reason)
    VALUES (:who, :action, :release_id, :from_id, :reason)""")


@dataclass(frozen=True, slots=True)
class ReleaseIds:
    """The numbers of a release and of the layers that it chose: what its rows are stored under."""

    release_id: int
    finder_id: int
    """Of faces, their crops and analyses."""
    trunk_id: int
    """Of embeddings, appearances and the gallery."""
    readings: Mapping[str, int]
    """By task, ``reading_id`` of predictions; also of heads that are switched off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRelease:
    """A row of the view ``releases``, in brief."""

    release_id: int
    release: str
    active: bool
    weights_sha256: str
    code_version: str
    created_at: datetime


def code_version() -> str:
    """Return the version of this program and of its results."""
    return f"{metadata.version('facet')}+pipeline{PIPELINE_VERSION}"


def operator() -> str:
    """Return the user and the host that run this program."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def register_release(session: Session, manifest: Manifest) -> ReleaseIds:
    """Return the numbers of a release, which is inserted if it is new; the first release becomes the active one.

    A release with some heads switched off is the same release: its rows lack predictions, and the others are equal.

    Args:
        session: an open session.
        manifest: of the release, with the hashes of its files.

    Raises:
        UsageError: the release was retired.
        ReleaseError: the manifest names no hash for one of its files.
    """
    key = {"fingerprint": _fingerprint(manifest)}
    known = session.execute(_FIND, key).first()
    if known is None:
        _lock_releases(session)
        known = session.execute(_FIND, key).first()  # another process may have registered it meanwhile
    if known is None:
        return read_ids(session, _insert(session, manifest))
    if known.retired_at is not None:
        raise UsageError(
            f"release {manifest.name} was retired at {known.retired_at:%Y-%m-%d %H:%M}, and its rows are gone; set "
            "FACET_RELEASE to another one, see `facet releases list`"
        )
    return read_ids(session, known.release_id)


def _fingerprint(manifest: Manifest) -> str:
    maker = json.dumps([manifest.fingerprint, PIPELINE_VERSION])
    return hashlib.sha256(maker.encode()).hexdigest()


def _insert(session: Session, manifest: Manifest) -> int:
    """Insert a release with its layers; the caller holds the lock of releases."""
    layers = layers_of(manifest, PIPELINE_VERSION)
    ids = _insert_layers(session, layers)
    trunk_id = ids[layers.trunk.fingerprint]
    values = {
        "fingerprint": _fingerprint(manifest),
        "name": manifest.name,
        "weights": manifest.weights_sha256,
        "code": code_version(),
        "metrics": json.dumps(manifest.metrics),
        "manifest": manifest.to_json(),
        "finder": ids[layers.finder.fingerprint],
        "trunk": trunk_id,
    }
    release_id = int(session.execute(_INSERT, values).scalar_one())
    for task, head in layers.heads.items():
        reading = layers.readings[task]
        chosen = {"task": task, "head": ids[head.fingerprint], "reading": ids[reading.fingerprint]}
        session.execute(_INSERT_READING, chosen | {"release_id": release_id})
    session.execute(_INSERT_STATE, {"trunk": trunk_id})
    _record(session, "register", release_id, None)
    if find_active(session) is None:
        _switch(session, release_id, reason="the first release")
    return release_id


def _insert_layers(session: Session, layers: ReleaseLayers) -> dict[str, int]:
    """Insert the layers that are new; return the number of each by its fingerprint."""
    for entry in layers.entries:
        session.execute(_INSERT_LAYER, _layer(entry))
    found = session.execute(_LAYERS, {"fingerprints": [entry.fingerprint for entry in layers.entries]})
    return {row.fingerprint: int(row.layer_id) for row in found}


def _layer(entry: LayerEntry) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "fingerprint": entry.fingerprint,
        "parent": entry.parent,
        "task": entry.task,
        "labels": None if entry.labels is None else list(entry.labels),
        "spec": json.dumps(entry.spec),
    }


def _lock_releases(session: Session) -> None:
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": RELEASES_LOCK})


def activate(session: Session, wanted: str, *, reason: str | None = None) -> str:
    """Activate a release, so that the views show its results; return its name.

    Args:
        session: an open session.
        wanted: number or name of the release.
        reason: why; the history of releases keeps it.

    Raises:
        UsageError: no release has this name, several have, or it was retired.
    """
    _lock_releases(session)
    found = session.execute(_NAMED, {"name": wanted}).all()
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} releases have the name or number {wanted!r}, expected one; see `facet releases list`"
        )
    chosen = found[0]
    if chosen.retired_at is not None:
        raise UsageError(
            f"release {chosen.name} was retired at {chosen.retired_at:%Y-%m-%d %H:%M}, and its rows are gone; choose "
            "another one, see `facet releases list`"
        )
    _switch(session, int(chosen.release_id), reason)
    return str(chosen.name)


def _switch(session: Session, release_id: int, reason: str | None) -> None:
    """Make a release the active one; the caller holds the lock of releases."""
    before = find_active(session)
    if before is not None and before.release_id == release_id:
        return
    session.execute(text("UPDATE release SET active = false WHERE active"))
    session.execute(text("UPDATE release SET active = true WHERE release_id = :id"), {"id": release_id})
    _record(session, "activate", release_id, reason, None if before is None else before.release_id)


def _record(
    session: Session,
    action: Literal["register", "activate"],
    release_id: int,
    reason: str | None,
    from_id: int | None = None,
) -> None:
    values = {"who": operator(), "action": action, "release_id": release_id, "from_id": from_id, "reason": reason}
    session.execute(_RECORD, values)


def active_release(session: Session) -> tuple[ReleaseIds, str]:
    """Return numbers and name of the release that the views show.

    Raises:
        UsageError: nothing was analysed yet, so there is none.
    """
    row = session.execute(_IDS, {"release_id": None}).first()
    if row is None:
        raise UsageError("no release is active, because nothing was analysed yet; run `facet analyze` first")
    return _ids(row), str(row.name)


def find_active(session: Session) -> ReleaseIds | None:
    """Return the numbers of the release that the views show; None before the first analysis."""
    row = session.execute(_IDS, {"release_id": None}).first()
    return None if row is None else _ids(row)


def read_ids(session: Session, release_id: int) -> ReleaseIds:
    """Return the numbers of a registered release."""
    return _ids(session.execute(_IDS, {"release_id": release_id}).one())


def _ids(row: Row[tuple[object, ...]]) -> ReleaseIds:
    return ReleaseIds(
        release_id=int(row.release_id),
        finder_id=int(row.finder_id),
        trunk_id=int(row.trunk_id),
        readings=dict(zip(row.tasks, row.readings, strict=True)),
    )


def read_releases(session: Session) -> list[ListedRelease]:
    """Return all releases, the oldest first."""
    rows = session.execute(_RELEASES)
    return [ListedRelease(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to read a Row by name


def head_specs(release: Release) -> dict[str, HeadSpec]:
    """Return the heads that are switched on."""
    return {task: HeadSpec(release.spec(task)) for task in release.heads}
