"""A backup with crops: those that rows name, at one moment, while the archive goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sqlalchemy import text

from db.engine import make_engine
from worker.errors import UsageError
from worker.ledger.upkeep.backup import CROPS, BackupStores, create_backup, read_backup, restore_backup
from worker.storage.crops import CropStore
from worker.storage.release_store import ReleaseStore


@pytest.fixture
def engine(clean_database, house, people):
    engine = make_engine(clean_database)
    yield engine
    engine.dispose()


@pytest.fixture
def stores(house, tmp_path):
    return BackupStores(house.stores.crops, ReleaseStore(str(tmp_path / "releases")))


@pytest.fixture
def elsewhere(clean_database):
    engine = make_engine(clean_database).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS elsewhere WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE elsewhere"))
    engine.dispose()
    return engine.url.set(database="elsewhere").render_as_string(hide_password=False)


def named(engine):
    with engine.connect() as connection:
        return set(connection.scalars(text("SELECT uri FROM crop_strip")))


def test_rows_and_crops_come_back(engine, clean_database, stores, elsewhere, crop_size, tmp_path):
    stores.crops.write("aa/orphan/1/1-1-0.png", np.zeros((1, 112, 112, 3), np.uint8))
    steps = []
    written = create_backup(engine, clean_database, stores, tmp_path / "backup", steps.append)
    expected = named(engine)
    assert written.strips == len(expected) > 3
    assert steps[-1] == len(expected)
    assert (written.missing, read_backup(tmp_path / "backup")) == ((), written)
    copied = CropStore(str(tmp_path / "backup" / CROPS))
    assert set(copied.find("")) == expected

    again = BackupStores(CropStore(str(tmp_path / "again")), ReleaseStore(str(tmp_path / "releases-again")))
    restore_backup(elsewhere, again, tmp_path / "backup", steps.append)
    other = make_engine(elsewhere)
    assert named(other) == expected
    query = text("SELECT person_id, name, appearance_count FROM people ORDER BY 1")
    with engine.connect() as connection, other.connect() as restored:
        rows = connection.execute(query).all()
        assert restored.execute(query).all() == rows != []
    other.dispose()
    for name in expected:
        assert np.array_equal(again.crops.read(name, crop_size), stores.crops.read(name, crop_size))


def test_a_strip_that_is_gone_is_told_unless_its_row_went_too(engine, clean_database, stores, tmp_path):
    first, second, *_ = sorted(named(engine))
    folder = tmp_path / "backup"
    remove = stores.crops.remove

    def erase(strips):
        """Erase a file while crops are copied: the second strip goes with its row."""
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM crop_strip WHERE uri = :uri"), {"uri": second})

    remove(first)
    remove(second)
    written = create_backup(engine, clean_database, stores, folder, erase)
    assert written.missing == (first,)
    assert json.loads((folder / "backup.json").read_text())["missing"] == [first]
    with pytest.raises(UsageError, match="not empty"):
        create_backup(engine, clean_database, stores, folder, erase)
