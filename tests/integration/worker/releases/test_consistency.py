"""`facet db check --rows`: each contradiction is made by hand, and found; without one nothing is."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from models.manifest import TRUNK_FILE
from tests.integration.worker.conftest import made_manifest
from tests.integration.worker.releases.test_retiring import answer, identify
from worker.cli.main import app
from worker.config import Settings, settings
from worker.errors import FacetError
from worker.ledger.releases import register_release
from worker.releases.consistency import find_contradictions
from worker.releases.folders import ReleaseFolders
from worker.releases.health import check_store
from worker.releases.retiring import retire


@pytest.fixture
def folders(archive, tmp_path):
    return ReleaseFolders(Settings(home=tmp_path / "home", device="cpu"), archive.sessions)


@pytest.fixture
def seen(crowd):
    """Two releases with their rows over some photos: the second one has another branch of age."""
    for somebody in range(8):
        crowd.photo(somebody, (somebody + 1) % 8)
    identify(crowd, crowd.release)
    other = crowd.register("other", age="retrained")
    answer(crowd, crowd.release)
    answer(crowd, other)
    crowd.session.commit()
    return crowd


def found(archive, folders):
    """Return what is found, without the files of the made releases, which no store has."""
    with archive.sessions() as session:
        every = find_contradictions(session, folders.store)
    return [one for one in every if "holds no" not in one]


BROKEN = {
    "no active release": ("UPDATE release SET active = false", r"^0 releases are active, expected 1"),
    "a retired release that is active": (
        "UPDATE release SET retired_at = now() WHERE active",
        r"^release test is active, and was retired",
    ),
    "a trunk of another finder": (
        """WITH f AS (INSERT INTO layer (kind, fingerprint, spec) VALUES ('finder', 'x', '{}') RETURNING layer_id)
           UPDATE release SET finder_id = (SELECT layer_id FROM f) WHERE name = 'other'""",
        r"^release other \(2\) has trunk \d+, which does not belong to its finder \d+",
    ),
    "a head of another trunk": (
        """WITH t AS (INSERT INTO layer (kind, fingerprint, spec, parent_id)
                      SELECT 'trunk', 'x', '{}', finder_id FROM release WHERE name = 'other' RETURNING layer_id),
                s AS (INSERT INTO trunk_state (trunk_id) SELECT layer_id FROM t)
           UPDATE release SET trunk_id = (SELECT layer_id FROM t) WHERE name = 'other'""",
        r"^release other \(2\) has head \d+ of age, which does not belong to its trunk \d+",
    ),
    "a reading of another head": (
        """UPDATE release_reading AS o SET reading_id = p.reading_id FROM release_reading AS p
           WHERE o.task = 'age' AND p.task = 'age' AND o.release_id = 2 AND p.release_id = 1""",
        r"^release other \(2\) has reading \d+ of age, which does not belong to its head \d+",
    ),
    "a branch without a reading": (
        "DELETE FROM release_reading WHERE release_id = 2 AND task = 'emotion'",
        r"^release other \(2\) has the branch emotion, and no reading of it",
    ),
    "no state of a trunk": ("DELETE FROM trunk_state", r"^release test \(1\) has no state of identification"),
    "an open unit of a retired release": (
        """WITH r AS (UPDATE release SET retired_at = now(), retirement = '{"step": "done"}' WHERE release_id = 2)
           INSERT INTO unit (analysis_id, release_id, ordinal)
           SELECT min(analysis_id), 2, 7 FROM analysis""",
        r"^release other \(2\) was retired, and 1 units of it are open",
    ),
    "a reprocess job of a retired release": (
        """WITH r AS (UPDATE release SET retired_at = now(), retirement = '{"step": "done"}' WHERE release_id = 2)
           INSERT INTO job (name, options, kind, release_id) VALUES ('late', '{}', 'reprocess', 2)""",
        r"^release other \(2\) was retired, and reprocess job \d+ of it has not ended",
    ),
    "rows of a reading that no release has": (
        """WITH l AS (INSERT INTO layer (kind, fingerprint, spec, parent_id, task)
                      SELECT 'reading', 'x', '{}', head_id, task FROM release_reading
                      WHERE release_id = 1 AND task = 'gender' RETURNING layer_id)
           INSERT INTO prediction (face_id, reading_id, label) SELECT face_id, layer_id, 'x' FROM face, l""",
        r"^16 rows of prediction have layer \d+, which no release has",
    ),
    "rows of a retired reading": (
        """UPDATE release SET retired_at = now(), retirement = '{"step": "done"}' WHERE release_id = 2""",
        r"^16 rows of appearance_prediction have layer \d+, which no release has",
    ),
    "embeddings of a trunk of another finder": (
        """WITH f AS (INSERT INTO layer (kind, fingerprint, spec) VALUES ('finder', 'x', '{}') RETURNING layer_id)
           UPDATE analysis SET finder_id = (SELECT layer_id FROM f)""",
        r"^16 rows of face_embedding have a layer that does not belong to that of their face",
    ),
    "answers of appearances of another trunk": (
        """WITH t AS (INSERT INTO layer (kind, fingerprint, spec, parent_id)
                      SELECT 'trunk', 'x', '{}', finder_id FROM release WHERE release_id = 1 RETURNING layer_id)
           UPDATE appearance SET trunk_id = (SELECT layer_id FROM t)""",
        r"^\d+ rows of appearance_prediction have a layer that does not belong to that of their face or appearance",
    ),
    "a shelved unit of a job that is not paused": (
        """WITH i AS (INSERT INTO job (name, options) VALUES ('late', '{}') RETURNING job_id),
                u AS (INSERT INTO unit (analysis_id, release_id, ordinal, shelved)
                      SELECT min(analysis_id), 1, 7, true FROM analysis RETURNING analysis_id)
           INSERT INTO job_item (job_id, item_no, uri, media_id, analysis_id)
           SELECT job_id, 1, '', media_id, analysis_id FROM i, u JOIN analysis USING (analysis_id)""",
        r"^1 units are shelved, and a job that is not paused waits for them",
    ),
    "a total that is wrong": (
        "UPDATE person_total SET face_count = face_count + 1 WHERE person_id = 1",
        r"^totals of person 1 differ from a recount: stored ",
    ),
    "a total of a reading that is wrong": (
        "UPDATE person_reading SET label = 'nobody' WHERE person_id = 2 AND label IS NOT NULL",
        r"^totals of person 2 differ from a recount",
    ),
}


def test_nothing_is_found_where_nothing_is_wrong(seen, archive, folders):
    assert found(archive, folders) == []
    retire(folders, "other")
    assert found(archive, folders) == [], "also where one was retired"


@pytest.mark.parametrize("case", BROKEN)
def test_a_contradiction_is_found(seen, archive, folders, case):
    statement, expected = BROKEN[case]
    with archive.sessions.begin() as session:
        session.execute(text(statement))
    assert [one for one in found(archive, folders) if re.search(expected, one)], found(archive, folders)


def test_rows_that_are_being_removed_are_no_contradiction(seen, archive, folders):
    with archive.sessions.begin() as session:
        session.execute(
            text('UPDATE release SET retired_at = now(), retirement = \'{"step": "people"}\' WHERE release_id = 2')
        )
    assert found(archive, folders) == []


def test_files_of_the_store_that_are_missing_damaged_or_of_no_release(database, config):
    folders = ReleaseFolders(config, database.sessions)
    folders.submitted()
    (name,) = folders.store.names()

    def check():
        with database.sessions() as session:
            return find_contradictions(session, folders.store)

    assert check() == []
    home = config.home / "releases"
    shutil.copytree(home / name, home / "0123456789abcdef")
    assert check() == ["the release store has 0123456789ab, which is not registered or was retired"]
    shutil.rmtree(home / "0123456789abcdef")
    path = home / name / TRUNK_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (damaged,) = check()
    assert re.match(rf"release default \(1\): .* is damaged: {TRUNK_FILE} has other bytes", damaged)
    path.unlink()
    (missing,) = check()
    assert f"holds no {name}/{TRUNK_FILE}" in missing


def test_a_release_that_is_registered_during_the_check_is_no_contradiction(database, config, monkeypatch):
    folders = ReleaseFolders(config, database.sessions)
    folders.submitted()
    store, home = folders.store, config.home / "releases"
    (name,) = store.names()
    with database.sessions() as session:
        files = dict(session.execute(text("SELECT manifest -> 'files' FROM release")).scalar_one())
    late = made_manifest("late").with_files(files)
    verify = type(store).verify

    def verify_and_register(self, fingerprint):
        verify(self, fingerprint)
        shutil.copytree(home / name, home / late.fingerprint)
        with database.sessions.begin() as other:
            register_release(other, late)

    monkeypatch.setattr(type(store), "verify", verify_and_register)
    with database.sessions() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        assert find_contradictions(session, store) == []


def test_the_command_names_it_and_the_doctor_too(database, config, monkeypatch, request):
    monkeypatch.setenv("FACET_DATABASE_URL", database.url)
    monkeypatch.setenv("FACET_HOME", str(config.home))
    settings.cache_clear()
    request.addfinalizer(settings.cache_clear)
    folders = ReleaseFolders(config, database.sessions)
    folders.submitted()
    run = CliRunner().invoke
    assert run(app, ["db", "check", "--rows"]).exit_code == 0
    with database.sessions.begin() as session:
        session.execute(text("UPDATE release SET active = false"))
    told = run(app, ["db", "check", "--rows"])
    assert told.exit_code == 1
    assert "0 releases are active" in told.output
    assert run(app, ["db", "check"]).exit_code == 0, "the check of containers does not depend on rows"
    with database.sessions() as session, pytest.raises(FacetError, match=r"0 releases are active.*db check --rows"):
        check_store(session, folders.store)


def test_releases_that_share_a_reading_share_its_rows(crowd, archive, folders):
    crowd.photo(0, 1)
    identify(crowd, crowd.release)
    answer(crowd, crowd.release)
    register_release(crowd.session, replace(made_manifest("renamed"), files=made_manifest("x", age="new").files))
    crowd.session.commit()
    assert found(archive, folders) == []
