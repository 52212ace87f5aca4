"""Releases in the findings of `facet doctor` and `facet status`."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from models.manifest import TRUNK_FILE, read_manifest
from worker.errors import FacetError
from worker.ledger.releases import register_release
from worker.ledger.status.health import run_health_checks
from worker.releases.health import check_store, newer_shipped


def test_a_release_that_the_store_lacks_is_named(folders):
    with folders.sessions.begin() as session:
        assert check_store(session, folders.store) == f"0 in {folders.config.home / 'releases'}"
    folders.submitted()
    (stored,) = folders.store.names()
    with folders.sessions.begin() as session:
        assert check_store(session, folders.store).startswith("1 in ")
        (folders.config.home / "releases" / stored / TRUNK_FILE).unlink()
        with pytest.raises(FacetError, match=r"lacks release default \(1\); run `facet releases register"):
            check_store(session, folders.store)
    folders.register_own()  # as the next worker does
    with folders.sessions.begin() as session:
        assert check_store(session, folders.store).startswith("1 in ")


def test_a_newer_shipped_release_is_a_note_and_no_failure(folders, make_variant):
    old = make_variant("old", abstain=0.9)
    folders.store.put(old)
    with folders.sessions.begin() as session:
        register_release(session, read_manifest(old))
        assert newer_shipped(session) is None
    folders.register_own()
    with folders.sessions.begin() as session:
        assert "release default (2) came with a newer version" in newer_shipped(session)
        assert "release default (2) came with" in check_store(session, folders.store)


def test_files_of_a_release_of_another_program_are_named(archive):
    archive.add()
    with archive.sessions.begin() as session:
        assert not [one for one in run_health_checks(session) if "release" in one]
        session.execute(text("UPDATE release SET code_version = '0.0.9+pipeline1'"))
        (found,) = [one for one in run_health_checks(session) if "release" in one]
        assert found.startswith("files wait for release test, which version 0.0.9+pipeline1 of the program computes")
