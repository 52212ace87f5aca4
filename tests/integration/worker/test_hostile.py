"""A file that kills every decoder that opens it: given up after three, and nothing else is lost."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import text

from worker.analysis.runner import Worker
from worker.cli.analyze import submit_paths
from worker.config import Settings
from worker.ledger.submission.job import Submission
from worker.releases.folders import load_own
from worker.storage.database import open_database

# A decode child as it is, but for an image that makes it end as if its decoder had written where it must not.
PROGRAM = """
import os
from worker.decode.child import __main__ as child

def evil(location, limits, still=child.open_image):
    opened = still(location, limits)
    if opened.info.width == 33:
        os.abort()
    return opened

child.open_image = evil
child.main()
"""


@pytest.fixture
def worker(clean_database, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.decode.process.PROGRAM", ("-c", PROGRAM))
    monkeypatch.setattr("worker.ledger.units.BACKOFF_SECONDS", 0.01)
    config = Settings(home=tmp_path / "home", database_url=clean_database, decoders=1)
    with open_database(config) as database:
        yield config, database, Worker(config, database, load_own(config))


def test_a_file_that_kills_three_children_is_quarantined_while_the_worker_lives(worker, tmp_path, caplog):
    config, database, analyst = worker
    folder = tmp_path / "media"
    folder.mkdir()
    for number, name in enumerate(("a.png", "evil.png", "z.png")):
        Image.new("RGB", (32 + number, 32)).save(folder / name)
    submission = Submission(name="mixed", release=analyst.ids, frames_per_second=2.0, unit_seconds=60.0)
    submit_paths(config, database, [str(folder)], submission)
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            analyst.drain(threading.Event())
            with database.sessions.begin() as session:
                rows = session.execute(
                    text("SELECT uri, state, attempts, last_error FROM unit JOIN analysis USING (analysis_id, state) "
                         "JOIN media_file USING (media_id) ORDER BY uri")
                ).all()  # fmt: skip
            if len(rows) == 3 and all(row.state != "pending" for row in rows):
                break
    assert [(Path(row.uri).name, row.state, row.attempts) for row in rows] == [
        ("a.png", "done", 1),
        ("evil.png", "quarantined", 3),
        ("z.png", "done", 1),
    ]
    assert rows[1].last_error.startswith("crashed: the decoder ended with signal SIGABRT")
    assert "a batch failed" not in caplog.text
