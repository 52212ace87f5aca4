"""A backup by pg_dump, restored on another server: rows come back, roles and settings of the database do not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import make_url, text
from typer.testing import CliRunner

from db.engine import make_engine
from db.errors import QueryError
from db.reader.run_query import run_query
from db.schema import migrate
from db.schema.roles import LIMITS
from db.server.embedded import EmbeddedPostgres
from db.server.pgwheel import PostgresWheel
from worker.cli.main import app
from worker.config import Settings
from worker.deployment.doctor import examine_database

PROGRAMS = PostgresWheel.find(10).programs


def server(url):
    place = make_url(url)
    return [f"--host={place.query['host']}", f"--username={place.username}"]


def run(program, *arguments):
    done = subprocess.run([PROGRAMS / program, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def administer(url, *statements):
    engine = make_engine(url, search_path="public").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def ask(url, query):
    with run_query(url, query) as result:
        return list(result)


@pytest.fixture(scope="module")
def restored(archive_url):
    """The address of a database on a new server, restored from a plain dump of the archive."""
    with TemporaryDirectory(prefix="facet-restore-") as folder, EmbeddedPostgres(Path(folder) / "postgres") as other:
        administer(other.url, "DROP ROLE facet_reader", "CREATE DATABASE again")
        dump = Path(folder) / "facet.sql"
        run("pg_dump", *server(archive_url), f"--dbname={make_url(archive_url).database}", f"--file={dump}")
        run("psql", *server(other.url), "--dbname=again", "--quiet", f"--file={dump}")  # errors are of missing roles
        yield make_url(other.url).set(database="again").render_as_string(hide_password=False)


@pytest.fixture
def facet(restored, tmp_path, monkeypatch):
    monkeypatch.setenv("FACET_HOME", str(tmp_path))
    monkeypatch.setenv("FACET_DATABASE_URL", restored)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_restored_database_is_told_apart_and_mended(restored, archive_url, facet):
    assert migrate.current_state(restored).is_current
    with pytest.raises(QueryError, match="facet_reader"):
        ask(restored, "SELECT * FROM people")
    refused = facet("db", "check")
    assert refused.exit_code == 1
    said = str(refused.exception or refused.output)
    assert all(word in said for word in ("facet_reader", "facet_worker", "search_path", "facet db upgrade"))
    finding = examine_database(Settings())
    assert (finding.ok, "missing in the database: the role facet_reader" in finding.found) == (False, True)

    assert facet("db", "upgrade").exit_code == 0

    assert facet("db", "check").exit_code == 0
    assert migrate.missing_access(restored) == []
    assert migrate.missing_limits(restored) == []
    for view in ("people", "faces", "media", "jobs", "corrections"):
        query = f"SELECT count(*), min({view}::text) FROM {view}"
        assert ask(restored, query) == ask(archive_url, query)
    listed = facet("sql", "SELECT name FROM people ORDER BY 1", "--format", "csv")
    assert listed.output.split() == ["name", "Ada", "Bo", "Eve"]
    place = make_url(restored)
    shown = run("psql", *server(restored), f"--dbname={place.database}", "-Atc", "SELECT count(*) FROM media")
    assert int(shown.stdout) > 0


def test_single_losses_are_named_and_mended(restored):
    migrate.upgrade(restored)
    losses = {
        "REVOKE SELECT ON facet.people FROM facet_reader": "privileges of facet_reader",
        "REVOKE USAGE ON SCHEMA facet FROM facet_reader": "privileges of facet_reader",
        "REVOKE UPDATE ON facet.unit FROM facet_worker": "privileges of facet_worker",
        "ALTER DATABASE again RESET search_path": "search_path",
        "DROP OWNED BY facet_worker; DROP ROLE facet_worker": "the role facet_worker",
    }
    for statement, told in losses.items():
        administer(restored, statement)
        assert [told in phrase for phrase in migrate.missing_access(restored)] == [True], statement
        migrate.upgrade(restored)
        assert migrate.missing_access(restored) == []


def test_what_an_administrator_set_for_the_reader_stays(restored):
    migrate.upgrade(restored)
    administer(
        restored,
        "ALTER ROLE facet_reader IN DATABASE again RESET ALL",
        "ALTER ROLE facet_reader SET statement_timeout = '7s'",
    )
    migrate.upgrade(restored)
    reader = make_url(restored).set(username="facet_reader").render_as_string(hide_password=False)
    administer(restored, "ALTER ROLE facet_reader LOGIN")
    engine = make_engine(reader)
    with engine.connect() as connection:
        found = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in LIMITS}
    engine.dispose()
    assert found == LIMITS | {"statement_timeout": "7s"}


def test_a_reader_that_logs_in_may_not_fill_the_disk_or_write(restored):
    migrate.upgrade(restored)
    administer(
        restored,
        "ALTER ROLE facet_reader LOGIN",
        "ALTER ROLE facet_reader IN DATABASE again SET temp_file_limit = '1MB'",
        "ALTER ROLE facet_reader IN DATABASE again SET work_mem = '64kB'",
    )
    engine = make_engine(make_url(restored).set(username="facet_reader").render_as_string(hide_password=False))
    with engine.connect() as connection:
        with pytest.raises(Exception, match="temporary file size exceeds"):
            connection.execute(text("SELECT count(*) FROM (SELECT DISTINCT n FROM generate_series(1, 900000) n) AS s"))
        connection.rollback()
        with pytest.raises(Exception, match="read-only transaction"):
            connection.execute(text("CREATE TEMPORARY TABLE mine (a int)"))
    engine.dispose()


def test_limits_that_only_a_superuser_may_set_are_told(restored):
    migrate.upgrade(restored)
    administer(restored, "ALTER ROLE facet_reader IN DATABASE again RESET temp_file_limit")
    administer(restored, "CREATE ROLE lender LOGIN CREATEROLE", "GRANT facet_reader TO lender WITH ADMIN OPTION")
    administer(restored, "GRANT USAGE ON SCHEMA facet TO lender", "GRANT SELECT ON facet.alembic_version TO lender")
    administer(restored, "ALTER ROLE facet_reader IN DATABASE again RESET work_mem")
    lender = make_url(restored).set(username="lender").render_as_string(hide_password=False)
    try:
        migrate.upgrade(lender)
        finding = examine_database(Settings(database_url=lender))
    finally:
        administer(restored, "DROP OWNED BY lender", "DROP ROLE lender")
    assert finding.ok
    assert finding.found.endswith("an administrator may: ALTER ROLE facet_reader SET temp_file_limit = '10GB'")


def test_readers_find_the_views_before_the_restored_database_is_upgraded(archive_url):
    """A dump without --create loses the settings of the database; those of roles come with pg_dumpall."""
    with TemporaryDirectory(prefix="facet-restore-") as folder, EmbeddedPostgres(Path(folder) / "postgres") as other:
        administer(archive_url, "CREATE ROLE analyst LOGIN IN ROLE facet_reader")
        try:
            migrate.upgrade(archive_url)
            dump, roles = Path(folder) / "facet.dump", Path(folder) / "roles.sql"
            run("pg_dumpall", *server(archive_url), "--globals-only", f"--file={roles}")
        finally:
            administer(archive_url, "DROP ROLE analyst")
        source = f"--dbname={make_url(archive_url).database}"
        run("pg_dump", *server(archive_url), source, "--format=custom", f"--file={dump}")
        administer(other.url, "DROP ROLE facet_reader", "CREATE DATABASE again")
        run("psql", *server(other.url), "--dbname=postgres", "--quiet", f"--file={roles}")
        run("pg_restore", *server(other.url), "--dbname=again", "--exit-on-error", str(dump))
        host = server(other.url)[0]
        for reader in ("facet_reader", "analyst"):
            asked = run("psql", host, f"--username={reader}", "--dbname=again", "-Atc", "SELECT count(*) FROM people")
            assert int(asked.stdout) > 0
