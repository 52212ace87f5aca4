"""One process serves every release that has work, with at most two of them loaded."""

from __future__ import annotations

import hashlib
from threading import Event

import pytest
from PIL import Image
from sqlalchemy import text

from models.manifest import read_manifest
from worker.errors import UsageError
from worker.ledger.due import DueRelease, read_due_releases
from worker.ledger.releases import register_release
from worker.releases.folders import ReleaseFolders
from worker.releases.serving import MAX_LOADED, ReleaseWorkers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def releases(folders, make_variant):
    """Return the numbers of the shipped release and of three others."""
    first = folders.submitted().release_id
    made = [make_variant(f"v{number}", abstain=0.6 + number / 100) for number in range(3)]
    for folder in made:
        folders.store.put(folder)
    with folders.sessions.begin() as session:
        others = [register_release(session, read_manifest(folder)).release_id for folder in made]
    return [first, *others]


@pytest.fixture
def add(database, tmp_path):
    """Return a function that adds a unit of a release: an image of its own, without faces."""

    def add(release_id, priority=0, attempts=0):
        with database.sessions.begin() as session:
            count = session.execute(text("SELECT count(*) FROM media_file")).scalar_one()
            path = tmp_path / f"{count}.png"
            Image.new("RGB", (40 + count, 50), (count, 99, 7)).save(path)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            return session.execute(
                text("""WITH m AS (INSERT INTO media_file (sha256, uri, location, kind, byte_size)
                                   VALUES (:sha, :uri, :uri, 'image', :size) RETURNING media_id),
                             a AS (INSERT INTO analysis (media_id, finder_id, sampling)
                                   SELECT media_id, finder_id, 'every' FROM m, release WHERE release_id = :r
                                   RETURNING analysis_id)
                        INSERT INTO unit (analysis_id, release_id, priority, attempts, last_error)
                        SELECT analysis_id, :r, :priority, :attempts, 'crashed' FROM a RETURNING unit_id"""),
                {"sha": sha256, "uri": str(path), "size": path.stat().st_size, "r": release_id, "priority": priority,
                 "attempts": attempts},
            ).scalar_one()  # fmt: skip

    return add


def states(database):
    with database.sessions.begin() as session:
        return dict(session.execute(text("SELECT unit_id, state FROM unit")).all())


def order(database):
    """The releases in the order in which their units were leased."""
    with database.sessions.begin() as session:
        return list(session.scalars(text("SELECT release_id FROM unit ORDER BY started_at")))


def test_all_releases_with_work_are_served_the_active_one_first(config, database, releases, add):
    units = [add(release_id) for release_id in (releases[2], releases[1], releases[0], releases[3])]
    workers = ReleaseWorkers(config, database)
    assert workers.has_work()
    workers.drain(Event())
    assert states(database) == dict.fromkeys(units, "done")
    assert order(database) == [releases[0], releases[1], releases[2], releases[3]]
    assert not workers.has_work()
    assert workers.loaded == (releases[0], releases[3])  # the active one stayed, the others went in turn
    assert len(workers.loaded) == MAX_LOADED
    workers.finish()


def test_priority_comes_first(config, database, releases, add):
    add(releases[0])
    add(releases[2], priority=5)
    with database.sessions.begin() as session:
        assert [(one.release_id, one.active, one.priority) for one in read_due_releases(session)] == [
            (releases[0], True, 0), (releases[2], False, 5),
        ]  # fmt: skip
    ReleaseWorkers(config, database).drain(Event())
    assert order(database) == [releases[2], releases[0]]


def test_releases_take_turns(config, database, releases):
    workers = ReleaseWorkers(config, database)
    due = [DueRelease(releases[1], False, 0), DueRelease(releases[0], True, 0)]
    served = [workers.next_worker(due).ids.release_id for _ in range(4)]
    assert served == [releases[0], releases[1], releases[0], releases[1]]
    assert workers.next_worker([]) is None


def test_a_release_that_cannot_be_loaded_keeps_no_other_waiting(config, database, folders, releases, add, caplog):
    lost, kept = add(releases[1], priority=9), add(releases[0])
    with database.sessions.begin() as session:
        name = session.execute(text("SELECT manifest FROM release WHERE release_id = :id"), {"id": releases[1]})
        assert name.scalar_one()["name"] == "v0"
    for stored in folders.store.names():
        if (folders.config.home / "releases" / stored / "release.json").read_text().find('"v0"') > 0:
            folders.store.remove(stored)
    workers = ReleaseWorkers(config, database)
    workers.drain(Event())
    assert states(database) == {lost: "pending", kept: "done"}
    assert "holds no" in caplog.text
    assert not workers.has_work()  # it is left to other hosts for a while


def test_the_release_of_the_settings_alone_is_served(config, database, releases, add, make_variant):
    other, shipped = add(releases[1]), add(releases[0])
    only = config.model_copy(update={"release": make_variant("v0-again", abstain=0.6)})
    workers = ReleaseWorkers(only, database)
    workers.drain(Event())
    assert states(database) == {other: "done", shipped: "pending"}
    assert workers.loaded == (releases[1],)
    assert not workers.has_work()


def test_a_retired_release_of_the_settings_is_refused(config, database, releases, make_variant):
    with database.sessions.begin() as session:
        session.execute(text("UPDATE release SET retired_at = now() WHERE release_id = :id"), {"id": releases[1]})
    with pytest.raises(UsageError, match="was retired"):
        ReleaseWorkers(config.model_copy(update={"release": make_variant("v0-again", abstain=0.6)}), database)


def test_what_dead_workers_left_is_ended_for_all_releases(config, database, releases, add):
    add(releases[2], attempts=config.max_attempts)
    with database.sessions.begin() as session:
        session.execute(text("UPDATE unit SET state = 'quarantined'"))
    workers = ReleaseWorkers(config, database)
    workers.drain(Event())
    with database.sessions.begin() as session:
        assert session.execute(text("SELECT state FROM analysis")).scalar_one() == "quarantined"
    assert workers.loaded == ()  # that needs no model


def test_releases_with_one_trunk_share_the_people_in_memory(config, database, releases):
    workers = ReleaseWorkers(config, database)
    first, second = workers.worker(releases[0]), workers.worker(releases[1])
    assert first.identifier is second.identifier
    workers.worker(releases[2])
    assert workers.loaded == (releases[0], releases[2])
    assert workers.worker(releases[0]) is first
    assert ReleaseFolders(config, database.sessions).submitted().release_id == releases[0]
