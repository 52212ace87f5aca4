"""The home folder: a full disk is said to be one before anything fails for it."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from db.errors import DatabaseError
from worker.config import Settings
from worker.errors import FacetError
from worker.storage import database
from worker.storage.home import hold_home


@pytest.fixture
def full(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3_000_000))


def test_no_analysis_begins_on_a_full_disk(full, tmp_path):
    with pytest.raises(FacetError, match=r"the disk is full: 3 MB are free under .*; free space"), hold_home(tmp_path):
        pytest.fail("it began")


@pytest.mark.parametrize("error", [DatabaseError("pg_ctl: could not start server"), OSError(28, "No space left")])
def test_a_database_that_does_not_start_for_a_full_disk_names_it(full, tmp_path, monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(database.EmbeddedPostgres, "start", fail)
    with (
        pytest.raises(FacetError, match="the disk is full"),
        database.database_address(Settings(home=tmp_path)),
    ):
        pytest.fail("it started")


def test_another_failure_keeps_its_own_reason(tmp_path, monkeypatch):
    def fail(_):
        raise DatabaseError("no such locale")

    monkeypatch.setattr(database.EmbeddedPostgres, "start", fail)
    with pytest.raises(FacetError, match="no such locale"), database.database_address(Settings(home=tmp_path)):
        pytest.fail("it started")
