"""Files with stored faces, and the bytes of a real video and a real image for them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.engine import make_engine, parse_url
from db.schema.roles import READER
from worker.analysis.tracking.joining import join_unit
from worker.cli.demo import build_photos
from worker.config import Settings
from worker.ledger.releases import HeadSpec
from worker.ledger.units import lease_units

if TYPE_CHECKING:
    from pathlib import Path

VIDEO, IMAGE, REFUSED = 1, 2, 3
"""Numbers of the stored files."""


@pytest.fixture
def reader(clean_database):
    """A read-only connection of the reader."""
    engine = make_engine(parse_url(clean_database).set(username=READER).render_as_string(hide_password=False))
    with engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        yield connection
    engine.dispose()


@pytest.fixture
def stored(archive):
    """A video of 20 s with people who change every 5 s, an image without a face, and a refused file."""
    heads = {branch.task: HeadSpec(branch) for branch in archive.manifest("test").branches}
    archive.add(kind="video")
    with archive.sessions.begin() as session:
        (unit,) = lease_units(session, archive.lease(), 1, stages=["analyse"])
        result = archive.filled(archive.manifest("test").branches, unit, 40)
        archive.store(session, result, join_unit(result, heads))
    archive.add()
    with archive.sessions.begin() as session:
        refused = session.execute(
            text("""INSERT INTO media_file (uri, reason) VALUES ('/media/half.jpg', 'truncated: it ends early')
                    RETURNING media_id""")
        ).scalar_one()
        session.execute(
            text("INSERT INTO job_item (job_id, item_no, uri, media_id) VALUES (:job, 9, '/media/half.jpg', :media)"),
            {"job": archive.job_id, "media": refused},
        )
        for statement in (
            "UPDATE media_file SET width = 640, height = 360, byte_size = 9 WHERE kind IS NOT NULL",
            "UPDATE media_file SET duration_seconds = 20, format = 'mp4' WHERE kind = 'video'",
            """UPDATE analysis SET state = 'done', is_current = true, finished_at = now(),
               face_count = (SELECT count(*) FROM face WHERE face.analysis_id = analysis.analysis_id)""",
            "INSERT INTO person (name) VALUES ('Ada'), (NULL), ('<b>Bo</b>')",
            "UPDATE appearance SET person_id = ordinal % 3 + 1 WHERE ordinal <> 4",
        ):
            session.execute(text(statement))
    return archive


@dataclass
class Disk:
    """The folder of the stored files, which is the root of this host."""

    folder: Path
    video: Path
    image: Path
    sessions: object

    def put(self, media_id: int, path: Path) -> None:
        """Make a row name another file, as if that one had been submitted."""
        data = path.read_bytes()
        with self.sessions.begin() as session:
            session.execute(
                text("""UPDATE media_file SET location = :path, uri = :path, sha256 = :sha, byte_size = :size
                        WHERE media_id = :id"""),
                {
                    "path": str(path),
                    "sha": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "id": media_id,
                },
            )


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Return a folder with the quickstart's photos and its clip of eight seconds."""
    folder = tmp_path_factory.mktemp("photos")
    build_photos(folder)
    return folder


@pytest.fixture
def web_settings(clean_database, tmp_path):
    """Settings with one root."""
    return Settings(home=tmp_path / "home", database_url=clean_database, media_roots=(str(tmp_path / "media"),))


@pytest.fixture
def disk(stored, photos, tmp_path):
    """The stored files with bytes."""
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("clip.mp4", "both.jpg"):
        (folder / name).write_bytes((photos / name).read_bytes())
    made = Disk(folder, folder / "clip.mp4", folder / "both.jpg", stored.sessions)
    made.put(VIDEO, made.video)
    made.put(IMAGE, made.image)
    with stored.sessions.begin() as session:
        session.execute(text("UPDATE media_file SET width = 1024, height = 512, format = 'jpeg' WHERE kind = 'image'"))
        session.execute(text("UPDATE media_file SET duration_seconds = 8 WHERE kind = 'video'"))
    return made
