"""Rows of registered releases, beside those that the ledger reads (`worker.ledger.releases`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from worker.ledger.releases import SHIPPED_REASON, NamedRelease, fingerprint_of, under_this_program

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from models.manifest import Manifest

_STORED = text("""
    SELECT release_id, name, code_version, fingerprint, manifest FROM release
    WHERE retired_at IS NULL AND manifest -> 'service' IS NULL
    ORDER BY release_id""")
_HISTORY = text("""
    SELECT h.at, h.action, h.who, h.reason, h.forced, h.gate, f.name AS from_release
    FROM release_history h LEFT JOIN release f ON f.release_id = h.from_release_id
    WHERE h.release_id = :id OR h.from_release_id = :id ORDER BY h.history_id""")
_NEWER_SHIPPED = text("""
    SELECT r.release_id, r.name FROM release r JOIN release_history h USING (release_id)
    WHERE h.action = 'register' AND starts_with(h.reason, :shipped) AND r.retired_at IS NULL
      AND r.release_id > (SELECT release_id FROM release WHERE active)
    ORDER BY r.release_id DESC LIMIT 1""")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRelease:
    """A registered release, by what is needed to fetch it."""

    release_id: int
    name: str
    code_version: str
    store_name: str
    """Fingerprint of its manifest, under which the release store has it."""
    files: tuple[str, ...]
    """Names of its weights files."""
    tasks: tuple[str, ...]
    """Of its heads."""
    is_servable: bool
    """Whether this program computes its results; one with another version of the pipeline would compute others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """An act on a release: its registration, a switch to it or away from it, its retirement."""

    at: datetime
    action: str
    who: str
    from_release: str | None
    reason: str | None
    forced: bool
    gate: dict[str, Any] | None


def read_release_history(session: Session, release_id: int) -> list[HistoryEntry]:
    """Return the history of a release, the oldest first."""
    return [HistoryEntry(**row) for row in session.execute(_HISTORY, {"id": release_id}).mappings()]


def read_stored(session: Session) -> list[StoredRelease]:
    """Return the releases that have models and were not retired, by number."""
    from models.manifest import fingerprint_of as of_manifest  # noqa: PLC0415 - it imports torch

    return [_stored(row, of_manifest(row.manifest)) for row in session.execute(_STORED)]


def store_name_of(session: Session, release_id: int) -> str:
    """Return the fingerprint under which the store has a release, retired or not."""
    from models.manifest import fingerprint_of as of_manifest  # noqa: PLC0415 - it imports torch

    statement = text("SELECT manifest FROM release WHERE release_id = :id")
    return of_manifest(session.execute(statement, {"id": release_id}).scalar_one())


def _stored(row: Row[tuple[Any, ...]], store_name: str) -> StoredRelease:
    return StoredRelease(
        release_id=int(row.release_id),
        name=str(row.name),
        code_version=str(row.code_version),
        store_name=store_name,
        files=tuple(row.manifest["files"]),
        tasks=tuple(branch["task"] for branch in row.manifest["branches"]),
        is_servable=under_this_program(store_name) == row.fingerprint,
    )


def is_name_of(session: Session, name: str, manifest: Manifest) -> bool:
    """Whether a registered release has this name."""
    statement = text("SELECT EXISTS (SELECT FROM release WHERE fingerprint = :fingerprint AND name = :name)")
    parameters = {"fingerprint": fingerprint_of(manifest), "name": name}
    return bool(session.execute(statement, parameters).scalar_one())


def describe_again(session: Session, release_id: int, manifest: Manifest, *, rename: bool) -> None:
    """Replace what the manifest of a registered release contains beside its results: metrics, data, licences, name."""
    statement = text("""
        UPDATE release SET manifest = cast(:manifest AS jsonb), metrics = cast(:metrics AS jsonb),
            name = CASE WHEN :rename THEN :name ELSE name END
        WHERE release_id = :id""")
    parameters = {"manifest": manifest.to_json(), "metrics": json.dumps(manifest.metrics), "rename": rename}
    session.execute(statement, parameters | {"name": manifest.name, "id": release_id})


def set_alias(session: Session, release_id: int, alias: str) -> None:
    """Move an alias to a release from the one that had it."""
    session.execute(text("UPDATE release SET alias = NULL WHERE alias = :alias"), {"alias": alias})
    session.execute(
        text("UPDATE release SET alias = :alias WHERE release_id = :id AND NOT active"),
        {"alias": alias, "id": release_id},
    )


def find_newer_shipped(session: Session) -> NamedRelease | None:
    """Return the latest release that a program brought along and that came after the active one."""
    row = session.execute(_NEWER_SHIPPED, {"shipped": SHIPPED_REASON}).first()
    return None if row is None else NamedRelease(int(row.release_id), str(row.name))
