"""Beat and workers on hosts whose clocks differ: files whose time is over are erased all the same."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest
from PIL import Image
from sqlalchemy import make_url

from db.server.embedded import EmbeddedPostgres

LIBRARY = next(iter(sorted(Path("/usr").glob("lib*/*/faketime/libfaketime.so.1"))), None)

pytestmark = [
    pytest.mark.skipif(LIBRARY is None, reason="faketime is not installed: apt-get install faketime"),
    pytest.mark.slow,
]


def test_a_worker_whose_clock_is_days_ahead_does_its_upkeep(facet, redis_url, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    facet.databases.hold(facet.home)
    with EmbeddedPostgres(facet.home / "postgres") as server:
        facet.settings |= {"FACET_BROKER_URL": redis_url, "FACET_DATABASE_URL": server.url}
        facet("submit", tmp_path / "a.png", "--keep-days", "1")
        place = make_url(server.url)
        with psycopg.connect(host=place.query["host"], user=place.username, dbname=place.database) as connection:
            connection.execute("UPDATE facet.job SET submitted_at = now() - interval '2 days'")
        beat = facet.start("beat")
        facet.settings |= {"LD_PRELOAD": str(LIBRARY), "FAKETIME": "+3d"}
        worker = facet.start("worker", "--only", "upkeep")
        for name in ("LD_PRELOAD", "FAKETIME"):
            del facet.settings[name]
        try:
            facet.wait_for(lambda: facet.value("SELECT count(*) FROM media") == 0, 90, pause=1)
        finally:
            for process in (beat, worker):
                process.send_signal(signal.SIGTERM)
                output, _ = process.communicate(timeout=60)
                assert "Traceback" not in output, output
        with psycopg.connect(host=place.query["host"], user=place.username, dbname=place.database) as connection:
            (seconds,) = connection.execute(
                "SELECT extract(epoch FROM now() - ended_at) FROM facet.upkeep_run WHERE name = 'retention'"
            ).fetchone()
        assert 0 <= seconds < 120, "the row is of the worker's clock, not of the database's"
