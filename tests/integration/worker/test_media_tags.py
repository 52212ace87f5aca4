"""Metadata of files in the view ``media``: written by the first analysis, and without text once a person was erased."""

from __future__ import annotations

import threading
from datetime import datetime

from PIL import Image
from sqlalchemy import text

from worker.analysis.runner import Worker
from worker.cli.analyze import submit_paths
from worker.config import Settings
from worker.ledger.submission.job import Submission
from worker.releases.folders import load_own
from worker.storage.database import open_database

SHOWN = text(
    "SELECT taken_at, camera, round(latitude::numeric, 2)::float8, longitude, title, tags,"
    " orientation FROM media ORDER BY uri"
)


def test_what_a_file_states_is_shown(clean_database, tmp_path):
    (tmp_path / "media").mkdir()
    exif = Image.Exif()
    exif[0x0110], exif[0x010E], exif[0x9C9B] = "Leica M6", "A street", "Parade".encode("utf-16-le")
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "1968:05:03 14:15:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 30.0, 36.0), 3: "W", 4: (2.0, 30.0, 0.0)})
    Image.new("RGB", (32, 33)).save(tmp_path / "media" / "a.jpg", exif=exif)
    Image.new("RGB", (32, 34)).save(tmp_path / "media" / "b.png")
    config = Settings(home=tmp_path / "home", database_url=clean_database, decoders=1)
    with open_database(config) as database:
        worker = Worker(config, database, load_own(config))
        submission = Submission(name="a", release=worker.ids, frames_per_second=2.0, unit_seconds=60.0)
        submit_paths(config, database, [str(tmp_path / "media")], submission)
        with database.sessions.begin() as session:
            assert {row.tags is None for row in session.execute(SHOWN)} == {True}
        worker.drain(threading.Event())
        with database.sessions.begin() as session:
            first, second = session.execute(SHOWN).all()
    assert tuple(first) == (
        datetime(1968, 5, 3, 14, 15), "Leica M6", 48.51, -2.5, "Parade", {"description": "A street"}, 6,  # noqa: DTZ001
    )  # fmt: skip
    assert tuple(second) == (None, None, None, None, None, {}, 1)
