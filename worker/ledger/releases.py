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

from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from models.branches import BranchSpec
    from models.layers import LayerEntry, ReleaseLayers
    from models.manifest import Manifest
    from models.release import Release

# Grows when code changes the results of the same bytes and weights; they then belong to another release.
PIPELINE_VERSION = 3

RELEASES_LOCK = 0x72656C  # "rel": one transaction at a time registers, switches or retires a release
ALIASES = ("active", "candidate", "previous")
SHIPPED_REASON = "shipped with "  # how the reason begins with which the release of a program is registered

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
# The previous release is the one that was active before, and can be active again.
_PREVIOUS = """
    SELECT h.from_release_id FROM release_history h JOIN release r ON r.release_id = h.from_release_id
    WHERE h.action IN ('activate', 'rollback') AND NOT r.active AND r.retired_at IS NULL
    ORDER BY h.history_id DESC LIMIT 1"""
_NAMED = text(f"""
    SELECT release_id, name, active, retired_at, manifest ->> 'service' AS service
    FROM release WHERE CASE cast(:name AS text)
        WHEN 'active' THEN active
        WHEN 'candidate' THEN alias = 'candidate'
        WHEN 'previous' THEN release_id = ({_PREVIOUS})
        ELSE name = :name OR cast(release_id AS text) = :name END
    ORDER BY release_id""")  # noqa: S608 - a constant
_TAKEN = text("SELECT name FROM release WHERE name = :name OR starts_with(name, :name || '-')")
_RECORD = text("""
    INSERT INTO release_history (who, action, release_id, from_release_id, reason, gate, forced)
    VALUES (:who, :action, :release_id, :from_id, :reason, cast(:gate AS jsonb), :forced)""")


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


@dataclass(frozen=True, slots=True)
class NamedRelease:
    """A registered release."""

    release_id: int
    name: str
    active: bool = False
    retired_at: datetime | None = None
    service: str | None = None
    """The cloud service whose results it is (`worker.releases.foreign`): nothing can be computed under it."""

    def __str__(self) -> str:
        return f"{self.name} ({self.release_id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Why the views are switched to a release."""

    action: Literal["activate", "rollback"] = "activate"
    reason: str | None = None
    gate: Mapping[str, object] | None = None
    """Checks of the gate with their figures; None where it was not asked."""
    forced: bool = False
    """Whether the release became active although the gate held it."""
    who: str | None = None
    """User that switches; None for the one that runs this program."""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """One head of the release."""

    branch: BranchSpec

    @property
    def labels(self) -> tuple[str, ...]:
        """K names, in the order of its outputs."""
        return self.branch.labels

    @property
    def threshold(self) -> float:
        """Mean probability below which the answer is 'unknown'; 0 for a head that always answers."""
        return self.branch.abstain or 0.0 if self.branch.kind == "softmax" else 0.0


def code_version() -> str:
    """Return the version of this program and of its results."""
    return f"{metadata.version('facet')}+pipeline{PIPELINE_VERSION}"


def user_name() -> str:
    """Return the name of the operating system's user who runs this program."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container may run under a number that has no name


def operator() -> str:
    """Return the user and the host that run this program."""
    return f"{user_name()}@{socket.gethostname()}"


def register_release(session: Session, manifest: Manifest, *, reason: str | None = None) -> ReleaseIds:
    """Return the numbers of a release, which is inserted if it is new; the first release becomes the active one.

    A release with some heads switched off is the same release: its rows lack predictions, and the others are equal. A
    new release whose name another one has is numbered: ``default-2``.

    Args:
        session: an open session.
        manifest: of the release, with the hashes of its files.
        reason: for the history, where the release is new.

    Raises:
        UsageError: the release was retired.
        ReleaseError: the manifest names no hash for one of its files.
    """
    key = {"fingerprint": fingerprint_of(manifest)}
    known = session.execute(_FIND, key).first()
    if known is None:
        lock_releases(session)
        known = session.execute(_FIND, key).first()  # another process may have registered it meanwhile
    if known is None:
        return read_ids(session, _insert(session, manifest, reason))
    if known.retired_at is not None:
        raise UsageError(
            f"release {manifest.name} was retired at {known.retired_at:%Y-%m-%d %H:%M}, and its rows are gone; set "
            "FACET_RELEASE to another one, see `facet releases list`"
        )
    return read_ids(session, known.release_id)


def read_state(session: Session, manifest: Manifest) -> Literal["new", "registered", "retired"]:
    """Return whether a release is registered, or was."""
    row = session.execute(_FIND, {"fingerprint": fingerprint_of(manifest)}).first()
    return "new" if row is None else "registered" if row.retired_at is None else "retired"


def fingerprint_of(manifest: Manifest) -> str:
    """Return the fingerprint of a release under this program: equal only for equal results."""
    return under_this_program(manifest.fingerprint)


def under_this_program(manifest_fingerprint: str) -> str:
    """Return the fingerprint of a release by that of its manifest."""
    maker = json.dumps([manifest_fingerprint, PIPELINE_VERSION])
    return hashlib.sha256(maker.encode()).hexdigest()


def _insert(session: Session, manifest: Manifest, reason: str | None) -> int:
    """Insert a release with its layers; the caller holds the lock of releases."""
    from models.layers import layers_of  # noqa: PLC0415 - it imports torch, which most commands do not need

    values = {
        "fingerprint": fingerprint_of(manifest),
        "name": free_name(session, manifest.name),
        "weights": manifest.weights_sha256,
        "metrics": json.dumps(manifest.metrics),
        "manifest": manifest.to_json(),
    }
    release_id = insert_release(session, values, layers_of(manifest, PIPELINE_VERSION), reason)
    if find_active(session) is None:
        _switch(session, release_id, Switch(reason="the first release"))
    return release_id


def insert_release(session: Session, values: Mapping[str, object], layers: ReleaseLayers, reason: str | None) -> int:
    """Insert a release with the layers that are new; return its number. The caller holds the lock of releases.

    The values are ``fingerprint``, ``name``, ``weights`` (SHA-256), ``metrics`` and ``manifest`` (JSON).
    """
    ids = _insert_layers(session, layers)
    trunk_id = ids[layers.trunk.fingerprint]
    values = {**values, "code": code_version(), "finder": ids[layers.finder.fingerprint], "trunk": trunk_id}
    release_id = int(session.execute(_INSERT, values).scalar_one())
    for task, head in layers.heads.items():
        chosen = {"task": task, "head": ids[head.fingerprint], "reading": ids[layers.readings[task].fingerprint]}
        session.execute(_INSERT_READING, chosen | {"release_id": release_id})
    session.execute(_INSERT_STATE, {"trunk": trunk_id})
    record(session, "register", release_id, reason=reason)
    return release_id


def free_name(session: Session, name: str) -> str:
    """Return a name that no release has: this one, or this one with a number behind it."""
    taken = set(session.scalars(_TAKEN, {"name": name}))
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (name, *numbered) if one not in taken and one not in ALIASES and not one.isdecimal())


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


def find_release(session: Session, wanted: str, *, or_retired: bool = False) -> NamedRelease:
    """Return the release of a number, a name or an alias: ``active``, ``candidate`` or ``previous``.

    Args:
        session: an open session.
        wanted: number, name or alias.
        or_retired: whether it may be a retired one.

    Raises:
        UsageError: there is none, there are several, or it was retired.
    """
    rows = session.execute(_NAMED, {"name": wanted}).all()
    found = [NamedRelease(int(row.release_id), str(row.name), row.active, row.retired_at, row.service) for row in rows]
    usable = [one for one in found if one.retired_at is None] or found
    if not usable and wanted in ALIASES:
        raise UsageError(f"no release is the {wanted} one; name one by its number, see `facet releases list`")
    if len(usable) != 1:
        raise UsageError(
            f"{len(usable)} releases have the name or number {wanted!r}, expected one; see `facet releases list`"
        )
    if usable[0].retired_at is not None and not or_retired:
        raise UsageError(
            f"release {usable[0]} was retired at {usable[0].retired_at:%Y-%m-%d %H:%M}, and its rows are gone; choose "
            "another one, see `facet releases list`"
        )
    return usable[0]


def find_own_release(session: Session, wanted: str) -> NamedRelease:
    """Return a release that can be computed, as `find_release` does; a foreign one is refused with a UsageError."""
    found = find_release(session, wanted)
    if found.service is not None:
        raise UsageError(
            f"release {found} holds imported results of {found.service} and has no models, so nothing is computed, "
            "activated or grouped under it; name another one, see `facet releases list`"
        )
    return found


def find_previous(session: Session) -> int | None:
    """Return the number of the release that was active before and was not retired; None where there is none."""
    return session.execute(text(_PREVIOUS)).scalar()


def lock_releases(session: Session) -> None:
    """Take the lock of releases: no other transaction registers, switches or retires one until this one ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": RELEASES_LOCK})


def activate_release(session: Session, wanted: str, switch: Switch | None = None) -> str:
    """Activate a release, so that the views show its results; return its name.

    Args:
        session: an open session.
        wanted: number, name or alias of the release.
        switch: why; the history of releases keeps it.

    Raises:
        UsageError: no release has this name, several have, it was retired, or it is foreign.
    """
    lock_releases(session)
    chosen = find_own_release(session, wanted)
    _switch(session, chosen.release_id, switch or Switch())
    return chosen.name


def _switch(session: Session, release_id: int, switch: Switch) -> None:
    """Make a release the active one; the caller holds the lock of releases."""
    before = find_active(session)
    if before is not None and before.release_id == release_id:
        return
    session.execute(text("UPDATE release SET active = false WHERE active"))
    show = text("UPDATE release SET active = true, alias = NULL, retire_at = NULL WHERE release_id = :id")
    session.execute(show, {"id": release_id})
    record(session, switch.action, release_id, None if before is None else before.release_id, reason=switch.reason,
           gate=switch.gate, forced=switch.forced, who=switch.who)  # fmt: skip


def record(
    session: Session,
    action: Literal["register", "activate", "rollback", "retire"],
    release_id: int,
    from_id: int | None = None,
    **facts: object,
) -> None:
    """Write a row of the history of releases.

    Args:
        session: an open session.
        action: what was done.
        release_id: with this release.
        from_id: the release that was active before.
        facts: ``reason``, ``gate``, ``forced`` and ``who``, where there are such.
    """
    gate = facts.get("gate")
    values = {"who": facts.get("who") or operator(), "action": action, "release_id": release_id, "from_id": from_id,
              "reason": facts.get("reason"), "gate": None if gate is None else json.dumps(gate),
              "forced": bool(facts.get("forced"))}  # fmt: skip
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


def read_release_ids(session: Session) -> list[int]:
    """Return the numbers of the releases that were not retired."""
    return list(session.scalars(text("SELECT release_id FROM release WHERE retired_at IS NULL ORDER BY release_id")))


def head_specs(release: Release) -> dict[str, HeadSpec]:
    """Return the heads that are switched on."""
    return {task: HeadSpec(release.spec(task)) for task in release.heads}
