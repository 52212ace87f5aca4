"""Releases of benchmarks that run no network: the shipped one's description with other hashes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from models.manifest import DETECTOR_FILE, read_manifest
from models.release import DEFAULT
from worker.ledger.releases import register_release

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

    from worker.ledger.releases import ReleaseIds


def register_made(sessions: sessionmaker[Session], name: str, changed: str = DETECTOR_FILE) -> ReleaseIds:
    """Register a release that differs from the shipped one in one file.

    Args:
        sessions: of the database.
        name: of the release, and what stands for the bytes of the file.
        changed: name of that file; the detector's gives the release a finder of its own.
    """
    shipped = read_manifest(DEFAULT)
    hashes = {**shipped.files, changed: hashlib.sha256(name.encode()).hexdigest()}
    with sessions.begin() as session:
        return register_release(session, replace(shipped.with_files(hashes), name=name))
