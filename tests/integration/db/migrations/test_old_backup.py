"""A backup that an older version made, restored elsewhere and upgraded on the way."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from sqlalchemy import text

from db.engine import make_engine
from db.errors import DatabaseUnsuitable
from db.reader.run_query import run_query
from db.schema import migrate
from db.server.dump import dump, export_snapshot, restore
from worker.errors import UsageError
from worker.ledger.upkeep.backup import DUMP, MANIFEST, Backup, BackupStores, _sha256, read_backup, restore_backup
from worker.storage.crops import CropStore
from worker.storage.release_store import ReleaseStore


@pytest.fixture
def backup(old, tmp_path):
    """A folder as the older program would have written it."""
    folder = tmp_path / "backup"
    folder.mkdir()
    engine = make_engine(old.url)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        dump(old.url, folder / DUMP, export_snapshot(connection))
    engine.dispose()
    written = Backup(
        created_at="2026-01-01T00:00:00+00:00", facet="0.1.0", revision="0016", dump_sha256=_sha256(folder / DUMP),
        strips=0, missing=(), releases=(),
    )  # fmt: skip
    (folder / MANIFEST).write_text(json.dumps(asdict(written)))
    return folder


@pytest.fixture
def stores(tmp_path):
    return BackupStores(CropStore(str(tmp_path / "crops")), ReleaseStore(str(tmp_path / "releases")))


@pytest.fixture
def elsewhere(old):
    """The address of an empty database."""
    engine = make_engine(old.url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS elsewhere WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE elsewhere"))
    engine.dispose()
    return engine.url.set(database="elsewhere").render_as_string(hide_password=False)


def ask(url, query):
    with run_query(url, query) as result:
        return list(result)


def test_it_is_restored_elsewhere_and_upgraded(old, backup, stores, elsewhere):
    before = old.run("SELECT media_id, uri FROM facet.media ORDER BY 1")
    names = old.run("SELECT person_id, name FROM facet.person WHERE name IS NOT NULL ORDER BY 1")
    restore_backup(elsewhere, stores, backup, lambda strips: None)
    assert migrate.current_state(elsewhere).is_current
    assert migrate.missing_access(elsewhere) == []
    assert ask(elsewhere, "SELECT media_id, uri FROM media ORDER BY 1") == before
    assert len(names) > 3
    engine = make_engine(elsewhere)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT person_id, name FROM person WHERE name IS NOT NULL ORDER BY 1")).all()
    engine.dispose()
    assert [tuple(row) for row in kept] == names
    with pytest.raises(DatabaseUnsuitable, match="expected an empty one"):
        restore_backup(elsewhere, stores, backup, lambda strips: None)


def test_empty_tables_are_no_obstacle(backup, stores, elsewhere):
    migrate.upgrade(elsewhere)
    restore_backup(elsewhere, stores, backup, lambda strips: None)
    assert ask(elsewhere, "SELECT count(*) > 0 FROM media") == [(True,)]


def test_a_backup_that_is_none_damaged_or_too_new_is_refused(backup):
    written = read_backup(backup)
    (backup / MANIFEST).write_text(json.dumps(asdict(replace(written, revision="9999", facet="9.0"))))
    with pytest.raises(UsageError, match=r"Facet 9\.0 with tables at 9999"):
        read_backup(backup)
    (backup / MANIFEST).write_text(json.dumps(asdict(written)))
    with (backup / DUMP).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(UsageError, match="damaged"):
        read_backup(backup)
    (backup / MANIFEST).unlink()
    with pytest.raises(UsageError, match="no complete backup"):
        read_backup(backup)


def test_a_restore_that_fails_can_be_repeated(backup, elsewhere, stores):
    broken = backup / "broken.dump"
    broken.write_bytes((backup / DUMP).read_bytes()[:-2000])
    with pytest.raises(DatabaseUnsuitable, match="pg_restore"):
        restore(elsewhere, broken)
    restore_backup(elsewhere, stores, backup, lambda strips: None)
