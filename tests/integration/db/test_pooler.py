"""Through PgBouncer, which refuses settings among the parameters of a connection."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from sqlalchemy import make_url, text

from db.engine import make_engine, session_factory
from db.errors import QueryError
from db.reader.run_query import run_query
from db.schema import migrate
from db.schema.totals import find_differences
from db.server.pgwheel import PostgresWheel

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
SETTINGS = """
[databases]
{database} = host={server} dbname={database}
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = 4
logfile = {folder}/log
"""

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed: apt-get install pgbouncer")


@pytest.fixture(params=["session", "transaction"])
def pooled(request, archive_url):
    """The address of the archive behind a PgBouncer of its own, in one of its modes."""
    place, wheel = make_url(archive_url), PostgresWheel.find(10)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory(prefix="facet-pool-") as folder:
        server = place.query["host"]
        settings = SETTINGS.format(database=place.database, server=server, port=port, folder=folder, mode=request.param)
        (Path(folder) / "pgbouncer.ini").write_text(settings)
        (Path(folder) / "users").write_text('"postgres" ""\n"facet_reader" ""\n')
        if wheel.user is not None:
            for path in (Path(folder), *Path(folder).iterdir()):
                shutil.chown(path, wheel.user)
        process = subprocess.Popen([PGBOUNCER, "--quiet", Path(folder) / "pgbouncer.ini"], user=wheel.user)
        url = place.set(query={"host": folder}, port=port)
        try:
            wait_for(Path(folder) / f".s.PGSQL.{port}", process)
            yield url.render_as_string(hide_password=False)
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_for(path, process):
    until = time.monotonic() + 20
    while not path.exists():
        assert process.poll() is None, "PgBouncer ended"
        assert time.monotonic() < until, "PgBouncer does not answer"
        time.sleep(0.05)


def test_questions_keep_their_limits(pooled):
    query = "SELECT name, current_user::text, current_setting('timezone') FROM people ORDER BY 1 LIMIT 1"
    with run_query(pooled, query) as rows:
        assert list(rows) == [("Ada", "facet_reader", "UTC")]
    slow = "SELECT count(*) FROM generate_series(1, 30000) AS a, generate_series(1, 30000) AS b"
    with pytest.raises(QueryError, match=r"longer than 0\.3 s"), run_query(pooled, slow, timeout_seconds=0.3) as rows:
        list(rows)
    with pytest.raises(QueryError), run_query(pooled, "SELECT * FROM facet.unit") as rows:
        list(rows)


def test_a_question_leaves_nothing_to_whoever_gets_its_connection(pooled):
    with run_query(pooled, "SELECT 1", settings={"enable_sort": "off"}) as rows:
        list(rows)
    with psycopg.connect(pooled.replace("+psycopg", "").replace("//postgres@", "//facet_reader@")) as connection:
        shown = connection.execute(
            "SELECT current_setting('enable_sort'), current_setting('statement_timeout'), current_user::text"
        )
        assert shown.fetchone() == ("on", "10min", "facet_reader")


@pytest.mark.parametrize("pooled", ["session"], indirect=True)
def test_the_program_works_in_session_mode(pooled):
    migrate.require_current(pooled)
    assert migrate.upgrade(pooled).is_current
    engine = make_engine(pooled)
    with session_factory(engine)() as session:
        assert session.execute(text("SELECT count(*) FROM media")).scalar_one() > 0
        assert session.execute(text("SHOW timezone")).scalar_one() == "UTC"
        assert find_differences(session) == []
        session.rollback()
        assert session.execute(text("SHOW search_path")).scalar_one() == "facet,public"
    engine.dispose()
