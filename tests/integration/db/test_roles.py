"""The set-up that docs/access.md describes, on a real PostgreSQL: who may do what, and that it is enough to work."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import psycopg
import pytest
from PIL import Image
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from db.engine import make_engine
from db.errors import DatabaseUnsuitable, QueryError
from db.reader.run_query import run_query
from db.schema import migrate
from worker.ledger.upkeep.backup import BackupStores, create_backup, restore_backup
from worker.storage.crops import CropStore
from worker.storage.release_store import ReleaseStore

PAGE = Path(__file__).resolve().parents[3] / "docs" / "access.md"
LOGINS = ("facet_migrator", "facet_work", "facet_read")


def administer(url, *statements):
    engine = make_engine(url, search_path="public").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture(scope="module")
def urls(database_url):
    """Run the page's statements, then upgrade as the migrator; gives the address of each login."""
    first, second = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    statements = [
        line.replace("DATABASE facet ", "DATABASE facet_roles ")
        for line in first.strip().splitlines()
        if "ROLE facet_reader " not in line
        and "ROLE facet_worker " not in line  # another database's migration made them
    ]
    administer(database_url, *statements)
    url = make_engine(database_url).url.set(database="facet_roles")
    administer(url.render_as_string(hide_password=False), second.strip())
    found = {name: url.set(username=name).render_as_string(hide_password=False) for name in LOGINS}
    migrate.upgrade(found["facet_migrator"])
    yield found
    administer(database_url, "DROP DATABASE facet_roles WITH (FORCE)", *(f"DROP ROLE {name}" for name in LOGINS))


def run(url, statement):
    engine = make_engine(url)
    try:
        with engine.begin() as connection:
            return connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


def test_the_migrator_upgrades_again_and_owns_the_tables(urls):
    assert migrate.upgrade(urls["facet_migrator"]).is_current
    run(urls["facet_migrator"], "CREATE TABLE facet.scratch (a int)")
    run(urls["facet_migrator"], "DROP TABLE facet.scratch")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE facet.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE SCHEMA mine",
        "ALTER TABLE facet.unit ADD COLUMN a int",
        "DROP TABLE facet.face",
        "TRUNCATE facet.face",
        "CREATE INDEX ON facet.face (quality)",
        "DROP EXTENSION vector",
        "UPDATE facet.alembic_version SET version_num = '0'",
        "COPY facet.job TO '/dev/null'",
        "SET ROLE facet_migrator",
    ],
)
def test_the_worker_changes_no_table(urls, statement):
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner|must be able to SET ROLE"):
        run(urls["facet_work"], statement)


@pytest.mark.parametrize("statement", ["SELECT * FROM facet.unit", "DELETE FROM facet.job", "SELECT * FROM facet.face"])
def test_the_reader_sees_views_alone(urls, statement):
    with pytest.raises(ProgrammingError, match="permission denied"):
        run(urls["facet_read"], statement)
    with pytest.raises(QueryError), run_query(urls["facet_read"], statement) as result:
        list(result)
    with run_query(urls["facet_read"], "SELECT count(*) FROM media") as result:
        assert len(list(result)) == 1


def test_others_may_not_even_connect(urls, database_url):
    administer(database_url, "CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(urls["facet_read"].replace("+psycopg", "").replace("facet_read", "stranger"))
    finally:
        administer(database_url, "DROP ROLE stranger")


def test_a_worker_does_all_its_work_without_changing_tables(urls, tmp_path):
    """Submission, analysis, cancelling, erasure, regrouping and looking on, as the worker's login."""
    from worker.analysis.runner import Worker
    from worker.cli.analyze import submit_paths
    from worker.config import Settings
    from worker.erasure.erase import Eraser
    from worker.erasure.files import FileStores
    from worker.identity.proposals import regroup_people
    from worker.identity.regroup import alarm_of
    from worker.ledger.status.health import run_health_checks
    from worker.ledger.status.job_status import read_status
    from worker.ledger.submission.cancel import cancel_job
    from worker.ledger.submission.job import Submission
    from worker.releases.folders import load_own
    from worker.storage.crops import CropStore
    from worker.storage.database import open_database

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    config = Settings(home=tmp_path / "home", database_url=urls["facet_work"], decoders=1)
    with open_database(config) as database:
        worker = Worker(config, database, load_own(config))
        submission = Submission(name="a", release=worker.ids, frames_per_second=2.0, unit_seconds=60.0)
        job_id = submit_paths(config, database, [str(tmp_path / "a.png")], submission).job_id
        worker.drain(threading.Event())
        worker.identifier.finish()
        cancel_job(database.sessions, job_id)
        regroup_people(database.sessions, worker.ids.trunk_id, alarm_of(config))
        with database.sessions.begin() as session:
            assert read_status(session, job_id)[0].counts.done == 1
            assert run_health_checks(session) == []
            media_id = session.execute(text("SELECT media_id FROM media_file")).scalar_one()
        eraser = Eraser(database.sessions, FileStores(CropStore(config.crops), config.staging.absolute()))
        eraser.erase_media([str(media_id)])
        with database.sessions.begin() as session:
            assert session.execute(text("SELECT count(*) FROM media_file")).scalar_one() == 0


def test_the_migrator_restores_a_backup_and_the_others_go_on(urls, archive_url, tmp_path):
    stores = BackupStores(CropStore(str(tmp_path / "crops")), ReleaseStore(str(tmp_path / "releases")))
    engine = make_engine(archive_url)
    create_backup(engine, archive_url, stores, tmp_path / "backup", lambda strips: None)
    engine.dispose()
    run(urls["facet_migrator"], "TRUNCATE facet.media_file, facet.job, facet.release CASCADE")
    with pytest.raises(DatabaseUnsuitable, match="must be owner of schema facet"):
        restore_backup(urls["facet_work"], stores, tmp_path / "backup", lambda strips: None)
    restore_backup(urls["facet_migrator"], stores, tmp_path / "backup", lambda strips: None)
    assert migrate.missing_access(urls["facet_work"]) == []
    run(urls["facet_work"], "UPDATE facet.job SET name = 'again'")
    with run_query(urls["facet_read"], "SELECT name, (SELECT count(*) > 1 FROM people) FROM jobs") as rows:
        assert list(rows) == [("again", True)]
    with psycopg.connect(make_engine(urls["facet_read"]).url.set(drivername="postgresql").render_as_string()) as reader:
        assert reader.execute("SELECT count(*) > 1 FROM people").fetchone() == (True,)
