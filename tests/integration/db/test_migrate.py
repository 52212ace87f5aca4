from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db.base import SCHEMA, Base
from db.engine import make_engine
from db.errors import DatabaseUnreachable, DatabaseUnsuitable, SchemaMissing, SchemaNewer, SchemaOutdated
from db.reader.run_query import run_query
from db.schema import migrate
from db.schema.views import drop_views


@pytest.fixture
def empty_url(database_url):
    """The address of a new database without tables."""
    engine = make_engine(database_url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS empty WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE empty"))
    engine.dispose()
    return engine.url.set(database="empty").render_as_string(hide_password=False)


def run(url, *statements):
    engine = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        rows = [connection.exec_driver_sql(statement) for statement in statements]
        result = rows[-1].fetchall() if rows[-1].returns_rows else []
    engine.dispose()
    return result


def test_models_and_migrations_agree(database_url):
    engine = make_engine(database_url, search_path="public")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
                "version_table_schema": SCHEMA,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


CATALOGUE = (
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace = 'facet'::regnamespace ORDER BY 1, 2""",
    """SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'facet' ORDER BY 1, 2""",
    """SELECT table_name, column_name, udt_name, is_nullable, column_default, is_identity
       FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
       WHERE table_schema = 'facet' AND table_type = 'BASE TABLE' ORDER BY 1, 2""",
)


def test_tables_made_from_models_are_those_of_the_migrations(empty_url, database_url):
    # Alembic compares neither CHECK constraints nor conditions of indexes nor deferred keys.
    engine = make_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA facet"))
        connection.execute(text("CREATE EXTENSION vector WITH SCHEMA public"))
        Base.metadata.create_all(connection)
    engine.dispose()
    for query in CATALOGUE:
        migrated = [row for row in run(database_url, query) if "alembic_version" not in row[0]]
        assert migrated == run(empty_url, query)


def test_upgrade_from_nothing_and_again(empty_url):
    assert migrate.current_state(empty_url).position == "missing"
    with pytest.raises(SchemaMissing, match="facet db upgrade"):
        migrate.require_current(empty_url)
    assert migrate.upgrade(empty_url).is_current
    assert migrate.upgrade(empty_url).is_current
    migrate.require_current(empty_url)


def test_changed_views_and_old_tables_need_an_upgrade(empty_url):
    migrate.upgrade(empty_url)
    run(empty_url, "COMMENT ON SCHEMA facet IS 'another text'")
    with pytest.raises(SchemaOutdated, match="views"):
        migrate.require_current(empty_url)
    assert migrate.upgrade(empty_url).is_current


def test_a_view_of_the_users_survives_an_upgrade(empty_url):
    migrate.upgrade(empty_url)
    run(
        empty_url,
        "CREATE VIEW public.mine AS SELECT count(*) FROM facet.faces",
        "COMMENT ON SCHEMA facet IS 'another text'",
    )
    migrate.upgrade(empty_url)
    assert run(empty_url, "SELECT * FROM public.mine") == [(0,)]


def test_a_view_that_lost_a_column_is_made_anew(empty_url):
    migrate.upgrade(empty_url)
    run(
        empty_url,
        "DROP VIEW facet.releases",
        "CREATE VIEW facet.releases AS SELECT 1 AS once",
        "COMMENT ON SCHEMA facet IS 'another text'",
    )
    migrate.upgrade(empty_url)
    assert run(empty_url, "SELECT release FROM facet.releases") == []


def test_a_view_of_the_users_on_a_changed_view_is_named(empty_url):
    migrate.upgrade(empty_url)
    run(
        empty_url,
        "DROP VIEW facet.releases",
        "CREATE VIEW facet.releases AS SELECT 1 AS once",
        "CREATE VIEW public.mine AS SELECT * FROM facet.releases",
        "COMMENT ON SCHEMA facet IS 'another text'",
    )
    with pytest.raises(DatabaseUnsuitable, match="drop yours"):
        migrate.upgrade(empty_url)


def test_newer_tables_are_left_alone(empty_url):
    migrate.upgrade(empty_url)
    run(empty_url, "UPDATE facet.alembic_version SET version_num = 'from the future'")
    assert migrate.current_state(empty_url).position == "newer"
    with pytest.raises(SchemaNewer, match="install a newer Facet"):
        migrate.upgrade(empty_url)


def test_downgrade_of_the_first_step_leaves_no_table(empty_url):
    migrate.upgrade(empty_url)
    engine = make_engine(empty_url, search_path="public")
    with engine.connect() as connection:
        drop_views(connection)
        connection.commit()
        command.downgrade(migrate.alembic_config(connection), "base")
    engine.dispose()
    assert run(
        empty_url, "SELECT relname FROM pg_class WHERE relnamespace = 'facet'::regnamespace AND relkind = 'r'"
    ) == [("alembic_version",)]


def test_a_user_without_privileges_is_told(empty_url, database_url):
    run(database_url, "DROP ROLE IF EXISTS nobody_much", "CREATE ROLE nobody_much LOGIN")
    poor = empty_url.replace("//postgres@", "//nobody_much@")
    with pytest.raises(DatabaseUnsuitable, match="permission denied"):
        migrate.upgrade(poor)


def test_an_owner_who_may_not_make_roles_still_gets_tables(empty_url, database_url, caplog):
    run(
        database_url,
        "DROP ROLE IF EXISTS facet_owner",
        "CREATE ROLE facet_owner LOGIN",
        "GRANT CREATE ON DATABASE empty TO facet_owner",
    )
    run(empty_url, "CREATE EXTENSION vector")
    poor = empty_url.replace("//postgres@", "//facet_owner@")
    assert migrate.upgrade(poor).is_current
    assert {record.action for record in caplog.records} >= {"set_search_path"}
    assert run(poor, "SELECT * FROM facet.faces") == []


def test_an_owner_who_may_make_roles_gets_a_reader(empty_url, database_url):
    server = "ALTER ROLE {0} RENAME TO {1}"
    run(
        database_url,
        server.format("facet_reader", "kept_reader"),
        server.format("facet_worker", "kept_worker"),
        "CREATE ROLE role_maker LOGIN CREATEROLE",
        "ALTER DATABASE empty OWNER TO role_maker",
    )
    run(empty_url, "CREATE EXTENSION vector")
    try:
        owner = empty_url.replace("//postgres@", "//role_maker@")
        assert migrate.upgrade(owner).is_current
        with run_query(owner, "SELECT current_user::text, count(*) FROM faces") as result:
            assert list(result) == [("facet_reader", 0)]
        assert run(owner, "SHOW search_path") == [("facet,public",)]
    finally:
        run(
            database_url,
            "DROP DATABASE empty WITH (FORCE)",
            "DROP ROLE IF EXISTS facet_reader, facet_worker",
            "DROP ROLE role_maker",
            server.format("kept_reader", "facet_reader"),
            server.format("kept_worker", "facet_worker"),
        )


def test_other_programs_find_the_views_after_their_own_tables(empty_url):
    migrate.upgrade(empty_url)
    with psycopg.connect(empty_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ('"$user", public, facet',)
        assert connection.execute("SELECT count(*) FROM faces").fetchone() == (0,)


def test_a_path_set_by_an_administrator_stays(empty_url):
    run(empty_url, "ALTER DATABASE empty SET search_path = elsewhere")
    migrate.upgrade(empty_url)
    with psycopg.connect(empty_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("elsewhere",)


def test_programs_that_upgrade_at_once_wait_for_each_other(empty_url):
    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(migrate.upgrade, [empty_url] * 4))
    assert all(state.is_current for state in states)


def test_no_server_is_unreachable():
    with pytest.raises(DatabaseUnreachable) as caught:
        migrate.current_state("postgresql://someone:secret@localhost:1/facet")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def upgrade_to(url, revision):
    engine = make_engine(url, search_path="public")
    with engine.connect() as connection:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS facet"))
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public"))
        connection.commit()
        command.upgrade(migrate.alembic_config(connection), revision)
        connection.commit()
    engine.dispose()


NAMED_BEFORE = """
INSERT INTO facet.release (fingerprint, name, weights_sha256, code_version, active) VALUES ('f', 'r', 'w', '1', true);
INSERT INTO facet.person (release_id, name) VALUES (1, NULL), (1, 'Ada'), (1, 'Bo');
INSERT INTO facet.media_file (sha256, uri, location, kind) VALUES (repeat('a', 64), 'u', 'u', 'image');
INSERT INTO facet.analysis (media_id, release_id, sampling, state, finished_at, is_current)
    VALUES (1, 1, '2/s', 'done', now(), true), (1, 1, '1/s', 'done', now(), false);
INSERT INTO facet.unit (analysis_id, state) VALUES (1, 'done'), (2, 'done');
INSERT INTO facet.face (face_id, analysis_id, unit_id, media_id, release_id, at_seconds, x1, y1, x2, y2, landmarks,
                        detection_score, quality)
    SELECT n, n, n, 1, 1, n, 10 * n, 2, 30, 40, array_fill(0::real, ARRAY[10]), 0.9, 0.5 FROM generate_series(1, 2) n;
INSERT INTO facet.appearance (analysis_id, media_id, release_id, start_seconds, end_seconds, face_count, best_face_id,
                              quality, person_id)
    SELECT n, 1, 1, 0, 1, 1, n, 0.5, 2 FROM generate_series(1, 2) AS n;
"""


def test_names_given_before_there_were_corrections_become_corrections(empty_url):
    upgrade_to(empty_url, "0001")
    run(empty_url, NAMED_BEFORE)
    assert migrate.current_state(empty_url).position == "old"
    assert migrate.upgrade(empty_url).is_current
    assert run(empty_url, "SELECT kind, name, people, undone_at FROM facet.correction ORDER BY correction_id") == [
        ("name", "Ada", [2], None),
        ("name", "Bo", [3], None),
    ]
    anchors = "SELECT correction_id, side, media_id, at_seconds, x1, x2, appearance_id FROM facet.correction_anchor"
    assert run(empty_url, anchors) == [(1, 0, 1, 1.0, 10.0, 30.0, 1)]  # the analysis that is shown
    revisions = (
        "SELECT name, revision FROM facet.person JOIN facet.person_embedding USING (person_id) ORDER BY person_id"
    )
    assert run(empty_url, revisions) == [
        (None, 0),
        ("Ada", 0),
        ("Bo", 0),
    ]


def test_a_step_down_keeps_names_and_appearances(empty_url):
    upgrade_to(empty_url, "0001")
    run(empty_url, NAMED_BEFORE)
    migrate.upgrade(empty_url)
    engine = make_engine(empty_url, search_path="public")
    with engine.connect() as connection:
        drop_views(connection)
        connection.commit()
        command.downgrade(migrate.alembic_config(connection), "0001")
    engine.dispose()
    assert run(empty_url, "SELECT name FROM facet.person ORDER BY person_id") == [(None,), ("Ada",), ("Bo",)]
    assert run(empty_url, "SELECT count(*) FROM facet.appearance WHERE person_id = 2") == [(2,)]


WAITING_BEFORE = """
INSERT INTO facet.release (fingerprint, name, weights_sha256, code_version)
    VALUES ('f', 'r', 'w', '1'), ('g', 's', 'v', '1');
INSERT INTO facet.media_file (sha256, uri, location, kind) VALUES (repeat('a', 64), 'u', 'u', 'image');
INSERT INTO facet.analysis (media_id, release_id, sampling) VALUES (1, 2, '2/s'), (1, 1, '2/s');
INSERT INTO facet.unit (analysis_id) VALUES (1), (2);
"""


def test_units_get_the_release_of_their_analysis(empty_url):
    upgrade_to(empty_url, "0004")
    run(empty_url, WAITING_BEFORE)
    upgrade_to(empty_url, "0005")
    assert run(empty_url, "SELECT analysis_id, release_id FROM facet.unit ORDER BY 1") == [(1, 2), (2, 1)]
    engine = make_engine(empty_url, search_path="public")
    with engine.connect() as connection:
        with pytest.raises(IntegrityError, match="fk_unit_analysis_id_release_id_analysis"):
            connection.execute(text("INSERT INTO facet.unit (analysis_id, release_id, ordinal) VALUES (1, 1, 7)"))
        connection.rollback()
        command.downgrade(migrate.alembic_config(connection), "0004")
        connection.commit()
    engine.dispose()
    assert run(empty_url, "SELECT analysis_id FROM facet.unit ORDER BY 1") == [(1,), (2,)]


def test_migrations_may_take_any_time_and_nothing_else(empty_url, monkeypatch):
    """An index of a large archive takes longer than the limit of a statement; a wait for a lock does not."""
    limits = {}

    def noting(name, function):
        def noted(*arguments, **options):
            first = arguments[0]
            connection = first.attributes["connection"] if name == "upgrade" else first
            limits[name] = connection.execute(
                text("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
            ).one()
            return function(*arguments, **options)

        return noted

    monkeypatch.setattr(command, "upgrade", noting("upgrade", command.upgrade))
    for name in ("create_roles", "create_views", "count_people_if_free", "limit_reader"):
        monkeypatch.setattr(migrate, name, noting(name, getattr(migrate, name)))
    migrate.upgrade(empty_url)
    assert limits.pop("upgrade") == ("0", migrate.LOCK_TIMEOUT)
    assert set(limits) == {"create_roles", "create_views", "count_people_if_free", "limit_reader"}
    assert set(limits.values()) == {(migrate.STATEMENT_TIMEOUT, migrate.LOCK_TIMEOUT)}


def test_a_slow_statement_outside_of_migrations_is_ended(empty_url, monkeypatch):
    def slowly(function):
        def run_slowly(first, *arguments):
            connection = getattr(first, "attributes", {"connection": first})["connection"]
            connection.execute(text("SELECT pg_sleep(0.6)"))
            return function(first, *arguments)

        return run_slowly

    migrate.upgrade(empty_url)
    run(empty_url, "UPDATE facet.alembic_version SET version_num = '0020'")
    monkeypatch.setattr(migrate, "STATEMENT_TIMEOUT", "300ms")
    monkeypatch.setattr(command, "upgrade", slowly(command.stamp))
    assert migrate.upgrade(empty_url).is_current, "a migration is not limited"
    run(empty_url, "UPDATE facet.alembic_version SET version_num = '0020'")
    monkeypatch.setattr(migrate, "create_views", slowly(migrate.create_views))
    with pytest.raises(DatabaseUnsuitable, match="statement timeout"):
        migrate.upgrade(empty_url)


QUERY = """
import sys
sys.argv = ["facet", "sql", "SELECT 1"]
from worker.cli import main
main()
assert not {"alembic", "numpy", "pyarrow"} & set(sys.modules), sys.modules.keys()
"""


def test_a_command_on_current_tables_imports_no_migration(database_url):
    environment = os.environ | {"FACET_DATABASE_URL": database_url}
    done = subprocess.run(
        [sys.executable, "-c", QUERY], env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "1" in done.stdout


def test_the_names_of_files_are_the_revisions_in_order():
    scripts = ScriptDirectory(str(migrate.MIGRATIONS))
    assert list(migrate.revisions()) == [script.revision for script in scripts.walk_revisions()][::-1]
    assert migrate.revisions()[0] == "0001"
