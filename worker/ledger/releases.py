"""Model releases: every derived row names the release that made it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import UsageError
from worker.types import HeadSpec

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from models.release import Release

# Grows when code changes the results of the same bytes and weights; they then belong to another release.
PIPELINE_VERSION = 3

RELEASES_LOCK = 0x72656C  # "rel": one transaction at a time makes a release the active one


_RELEASES = text("""
    SELECT release_id, release, active, weights_sha256, code_version, created_at FROM releases ORDER BY created_at""")


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


def register_release(session: Session, release: Release) -> int:
    """Return the id of a release's row, which is inserted if it is new; the first release becomes the active one.

    A release with some heads switched off is the same release: its rows lack predictions, and the others are equal.
    """
    maker = json.dumps([release.fingerprint, PIPELINE_VERSION])
    parameters = {
        "fingerprint": hashlib.sha256(maker.encode()).hexdigest(),
        "name": release.name,
        "weights": release.weights_sha256,
        "code": code_version(),
        "metrics": json.dumps(release.manifest.metrics),
        "manifest": release.manifest.to_json(),
    }
    found = text("SELECT release_id FROM release WHERE fingerprint = :fingerprint")
    known = session.execute(found, parameters).scalar()
    if known is not None:
        return int(known)
    _lock_releases(session)
    session.execute(
        text("""INSERT INTO release (fingerprint, name, weights_sha256, code_version, metrics, manifest, active)
                VALUES (:fingerprint, :name, :weights, :code, cast(:metrics AS jsonb), cast(:manifest AS jsonb),
                        NOT EXISTS (SELECT FROM release WHERE active))
                ON CONFLICT (fingerprint) DO NOTHING"""),
        parameters,
    )
    return int(session.execute(found, parameters).scalar_one())


def _lock_releases(session: Session) -> None:
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": RELEASES_LOCK})


def activate(session: Session, wanted: str) -> str:
    """Activate a release, so that the views show its results; return its name.

    Args:
        session: an open session.
        wanted: number or name of the release.

    Raises:
        UsageError: no release has this name, or several have.
    """
    _lock_releases(session)
    found = session.execute(
        text("SELECT release_id, name FROM release WHERE name = :name OR cast(release_id AS text) = :name"),
        {"name": wanted},
    ).all()
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} releases have the name or number {wanted!r}, expected one; see `facet releases list`"
        )
    chosen = {"id": found[0].release_id}
    session.execute(text("UPDATE release SET active = false WHERE active AND release_id <> :id"), chosen)
    session.execute(text("UPDATE release SET active = true WHERE release_id = :id AND NOT active"), chosen)
    return str(found[0].name)


def active_release(session: Session) -> tuple[int, str]:
    """Return number and name of the release that the views show.

    Raises:
        UsageError: nothing was analysed yet, so there is none.
    """
    row = session.execute(text("SELECT release_id, name FROM release WHERE active")).first()
    if row is None:
        raise UsageError("no release is active, because nothing was analysed yet; run `facet analyze` first")
    return int(row.release_id), str(row.name)


def find_active(session: Session) -> int | None:
    """Return the number of the release that the views show; None before the first analysis."""
    return session.execute(text("SELECT release_id FROM release WHERE active")).scalar()


def read_releases(session: Session) -> list[ListedRelease]:
    """Return all releases, the oldest first."""
    rows = session.execute(_RELEASES)
    return [ListedRelease(**row._mapping) for row in rows]  # noqa: SLF001 - the documented way to read a Row by name


def head_specs(release: Release) -> dict[str, HeadSpec]:
    """Return labels and thresholds of the heads that are switched on."""
    return {task: HeadSpec(release.labels(task), release.threshold(task)) for task in release.heads}
