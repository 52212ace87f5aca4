"""A folder becomes a release of the deployment: checked, in the store, with a name of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from models import manifest as manifests
from models.manifest import TRUNK_FILE, read_manifest
from models.release import DEFAULT
from worker.errors import FacetError, GateClosed, RetryableError, UsageError
from worker.ledger import releases
from worker.ledger.releases import Switch, find_release
from worker.releases.folders import ReleaseFolders
from worker.releases.records import find_newer_shipped, read_release_history, read_stored
from worker.releases.registering import register_folder
from worker.releases.switching import roll_back, switch_release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def named(folders, wanted, **options):
    with folders.sessions.begin() as session:
        return find_release(session, wanted, **options)


def rows(folders, query):
    with folders.sessions.begin() as session:
        return [tuple(row) for row in session.execute(text(query))]


def test_the_shipped_release_is_the_first_and_active_one(folders):
    ids = folders.submitted()
    assert folders.submitted() == ids
    stored = read_manifest(DEFAULT).fingerprint
    assert folders.store.names() == [stored]
    with folders.sessions.begin() as session:
        (one,) = read_stored(session)
        assert [entry.action for entry in read_release_history(session, ids.release_id)] == ["register", "activate"]
        assert find_newer_shipped(session) is None
    assert (one.store_name, one.is_servable, set(one.tasks)) == (
        stored, True, {spec.task for spec in read_manifest(DEFAULT).branches},
    )  # fmt: skip
    with folders.open(ids.release_id) as folder:
        assert folder == DEFAULT  # no copy of what is there already


def test_a_registered_folder_is_fetched_from_the_store(folders, make_variant):
    folders.submitted()
    made = make_variant("mine", abstain=0.9)
    done = register_folder(folders, made, alias="candidate")
    assert (done.release.name, done.is_new) == ("mine", True)
    assert named(folders, "candidate") == named(folders, "mine") == done.release
    for path in made.iterdir():
        path.unlink()
    with folders.open(done.release.release_id) as folder:
        assert folder.is_relative_to(folders.config.release_cache)
        assert read_manifest(folder).name == "mine"
    release = folders.load(done.release.release_id)
    assert release.spec("gender").abstain == 0.9
    only = ReleaseFolders(folders.config.model_copy(update={"heads": frozenset({"age"})}), folders.sessions)
    assert only.load(done.release.release_id).heads == ("age",)
    wrong = ReleaseFolders(folders.config.model_copy(update={"heads": frozenset({"aeg"})}), folders.sessions)
    with pytest.raises(UsageError, match="FACET_HEADS names aeg, which no release has"):
        wrong.load(done.release.release_id)


def test_registered_again_it_gets_its_new_description(folders, make_variant):
    folders.submitted()
    folder = make_variant("mine", abstain=0.9)
    first = register_folder(folders, folder)
    manifest = replace(read_manifest(folder), name="theirs", metrics={"gender": {"accuracy": 0.5}})
    (folder / manifests.FILE).write_text(manifest.to_json())
    again = register_folder(folders, folder)
    assert (again.release, again.is_new) == (first.release, False)
    assert rows(folders, "SELECT name, metrics FROM release WHERE name = 'mine'") == [
        ("mine", {"gender": {"accuracy": 0.5}})
    ]
    assert register_folder(folders, folder, name="better").release.name == "better"
    assert len(rows(folders, "SELECT FROM release")) == 2


def test_names_are_unique_and_no_numbers(folders, make_variant):
    folders.submitted()
    with pytest.raises(UsageError, match="'default' is taken"):
        register_folder(folders, make_variant("default", abstain=0.8))
    for name in ("active", "previous", "17"):
        with pytest.raises(UsageError, match="pass another one with --name"):
            register_folder(folders, make_variant(f"v{name}", abstain=0.7), name=name)
    assert folders.store.names() == [read_manifest(DEFAULT).fingerprint]
    # A release that a program brings along has to get in: its name is numbered.
    brought = ReleaseFolders(folders.config.model_copy(update={"release": make_variant("default-x", abstain=0.6)}),
                             folders.sessions)  # fmt: skip
    manifest = replace(read_manifest(brought.own), name="default")
    (brought.own / manifests.FILE).write_text(manifest.to_json())
    brought.register_own()
    assert [row[0] for row in rows(folders, "SELECT name FROM release ORDER BY 1")] == ["default", "default-2"]


def test_a_release_that_does_not_run_is_refused(folders, make_variant, wide_release):
    folders.submitted()
    with pytest.raises(UsageError, match="cannot be used as a release: branch gender"):
        register_folder(folders, wide_release)
    broken = make_variant("nan", shift=float("nan"))
    with pytest.raises(UsageError, match="not finite"):
        register_folder(folders, broken)
    damaged = make_variant("damaged")
    (damaged / TRUNK_FILE).write_bytes(b"x")
    with pytest.raises(UsageError, match="damaged, restore it"):
        register_folder(folders, damaged)
    assert len(rows(folders, "SELECT FROM release")) == len(folders.store.names()) == 1


def test_a_store_that_is_away_takes_no_new_release_but_serves_a_known_one(folders, make_variant, caplog):
    folders.submitted()
    away = ReleaseFolders(folders.config.model_copy(update={"releases_url": "/dev/null/nowhere"}), folders.sessions)
    away.submitted()
    assert "is not in the release store" in caplog.text
    with pytest.raises(RetryableError, match="FACET_RELEASES_URL"):
        register_folder(away, make_variant("mine", abstain=0.9))
    own = ReleaseFolders(away.config.model_copy(update={"release": make_variant("own", abstain=0.8)}), folders.sessions)
    with pytest.raises(RetryableError, match="FACET_RELEASES_URL"):
        own.submitted()
    assert len(rows(folders, "SELECT FROM release")) == 1


def test_the_release_of_the_settings_wins(folders, make_variant):
    first = folders.submitted()
    config = folders.config.model_copy(update={"release": make_variant("own", abstain=0.8)})
    own = ReleaseFolders(config, folders.sessions)
    second = own.submitted()
    assert second.release_id != first.release_id
    assert named(folders, "active").release_id == first.release_id
    assert folders.submitted() == first


def test_switched_there_and_back(folders, make_variant):
    first = folders.submitted().release_id
    second = register_folder(folders, make_variant("mine", abstain=0.9), alias="candidate").release.release_id
    with pytest.raises(UsageError, match="no release is the previous one"):
        roll_back(folders.sessions)
    with pytest.raises(GateClosed, match="verdict: none"):
        switch_release(folders.sessions, "candidate", Switch(reason="better"))
    assert folders.submitted().release_id == first
    assert switch_release(folders.sessions, "candidate", Switch(reason="better", forced=True)) == "mine"
    assert folders.submitted().release_id == second
    with pytest.raises(UsageError, match="no release is the candidate one"):
        named(folders, "candidate")
    assert named(folders, "previous").release_id == first
    assert roll_back(folders.sessions, "worse") == "default"
    assert named(folders, "previous").release_id == second
    add_verdict(folders.sessions, second)
    switch_release(folders.sessions, "mine", Switch(reason="after all"))
    with folders.sessions.begin() as session:
        history = read_release_history(session, second)
    assert [(h.action, h.from_release, h.reason, h.forced, h.gate and h.gate["open"]) for h in history] == [
        ("register", None, None, False, None),
        ("activate", "default", "better", True, False),
        ("rollback", "mine", "worse", False, None),
        ("activate", "default", "after all", False, True),
    ]
    assert [check["name"] for check in history[-1].gate["checks"]] == ["coverage", "corrections", "drift", "verdict"]


def add_verdict(sessions, release_id):
    """Write a good verdict of training into a registered release."""
    with sessions.begin() as session:
        session.execute(
            text("""UPDATE release SET manifest = jsonb_set(manifest, '{verdict}', jsonb_build_object(
                        'base', 'default', 'judged', 9, 'worse', '[]'::jsonb)) WHERE release_id = :id"""),
            {"id": release_id},
        )


def test_a_newer_shipped_release_waits_to_be_activated(folders, make_variant, monkeypatch):
    old = register_folder(folders, make_variant("old", abstain=0.9)).release
    shipped = folders.register_own()
    assert folders.submitted().release_id == old.release_id
    with folders.sessions.begin() as session:
        newer = find_newer_shipped(session)
    assert newer is not None
    assert newer.release_id == shipped.release_id
    switch_release(folders.sessions, "default", Switch(reason="a test", forced=True))
    with folders.sessions.begin() as session:
        assert find_newer_shipped(session) is None


def test_a_release_of_another_pipeline_is_not_computed_here(folders, make_variant, monkeypatch):
    old = register_folder(folders, make_variant("old", abstain=0.9)).release
    monkeypatch.setattr(releases, "PIPELINE_VERSION", releases.PIPELINE_VERSION + 1)
    with pytest.raises(FacetError, match=r"belongs to version .*; start a worker of that version"):
        folders.load(old.release_id)
    assert named(folders, "active").release_id == old.release_id
    assert named(folders, str(folders.submitted().release_id)).name == "default"


def test_a_retired_shipped_release_does_not_stop_a_worker(folders, make_variant):
    first = folders.submitted()
    second = register_folder(folders, make_variant("mine", abstain=0.9)).release
    switch_release(folders.sessions, "mine", Switch(reason="a test", forced=True))
    with folders.sessions.begin() as session:
        session.execute(text("UPDATE release SET retired_at = now() WHERE release_id = :id"), {"id": first.release_id})
    folders.store.remove(read_manifest(DEFAULT).fingerprint)
    assert folders.register_own() is None
    assert folders.submitted().release_id == second.release_id
    assert len(folders.store.names()) == 1
    with pytest.raises(UsageError, match="was retired"):
        named(folders, "default")
    assert named(folders, "default", or_retired=True).release_id == first.release_id
    with pytest.raises(UsageError, match="no release is the previous one"):
        roll_back(folders.sessions)
