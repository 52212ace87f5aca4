"""A database with one release and made media, for the tests of the ledger and what stands on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.engine import make_engine, session_factory
from worker.ledger import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session, sessionmaker


@dataclass
class Archive:
    """A release, a job and as many analyses as a test asks for."""

    sessions: sessionmaker[Session]
    release_id: int
    job_id: int
    items: int = 0

    def add(self, *, units: int = 1, kind: str = "image") -> int:
        """Add a file of so many units to the job; returns its analysis."""
        self.items += 1
        with self.sessions.begin() as session:
            media_id = session.execute(
                text("""INSERT INTO media_file (sha256, uri, location, kind)
                        VALUES (:sha, :uri, :uri, :kind) RETURNING media_id"""),
                {"sha": f"{self.items:064x}", "uri": f"/media/{self.items}", "kind": kind},
            ).scalar_one()
            analysis_id = session.execute(
                text("""INSERT INTO analysis (media_id, release_id, sampling)
                        VALUES (:media, :release, '2/s') RETURNING analysis_id"""),
                {"media": media_id, "release": self.release_id},
            ).scalar_one()
            session.execute(
                text("INSERT INTO unit (analysis_id, ordinal) SELECT :id, n FROM generate_series(0, :last) n"),
                {"id": analysis_id, "last": units - 1},
            )
            session.execute(
                text("INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id) VALUES (:j, :n, :u, :m, :a)"),
                {"j": self.job_id, "n": self.items, "u": f"/media/{self.items}", "m": media_id, "a": analysis_id},
            )
        return int(analysis_id)

    def lease(self, owner: str = "one", *, seconds: float = 60.0, max_attempts: int = 3) -> Lease:
        return Lease(owner=owner, release_id=self.release_id, seconds=seconds, max_attempts=max_attempts)

    def job(self) -> dict[str, int]:
        """Read the job's sums from the view that users read."""
        with self.sessions.begin() as session:
            row = session.execute(text("SELECT submitted, done, rejected, quarantined, pending FROM jobs")).one()
        return dict(row._mapping)

    def expire_leases(self) -> None:
        with self.sessions.begin() as session:
            session.execute(text("UPDATE unit SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))


@pytest.fixture
def archive(clean_database: str) -> Iterator[Archive]:
    engine = make_engine(clean_database)
    sessions = session_factory(engine)
    with sessions.begin() as session:
        release_id = session.execute(
            text("""INSERT INTO release (fingerprint, name, weights_sha256, code_version, active, metrics, manifest)
                    VALUES ('f', 'test', repeat('0', 64), '0', true, '{}', '{}') RETURNING release_id""")
        ).scalar_one()
        job_id = session.execute(
            text("INSERT INTO job (name, options) VALUES ('test', '{}') RETURNING job_id")
        ).scalar_one()
    yield Archive(sessions, int(release_id), int(job_id))
    engine.dispose()
