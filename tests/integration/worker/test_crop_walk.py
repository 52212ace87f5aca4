"""The crop store compared with the rows: no strip without a row, no row without its strip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from worker.analysis.store.face_rows import strip_name
from worker.errors import RetryableError
from worker.ledger import units as ledger
from worker.ledger.submission import cancel
from worker.ledger.upkeep import crop_walk
from worker.ledger.upkeep.crop_walk import find_orphans, walk_crops
from worker.storage.crops import CropStore

CROPS = np.zeros((2, 16, 16, 3), np.uint8)


@pytest.fixture
def store(tmp_path):
    return CropStore(str(tmp_path / "crops"))


def take(archive, count=1):
    with archive.sessions.begin() as session:
        return ledger.lease_units(session, archive.lease(), count)


def write(store, unit, strip=0):
    store.write(strip_name(unit, strip), CROPS)
    return strip_name(unit, strip)


def name(archive, unit, strip):
    with archive.sessions.begin() as session:
        session.execute(
            text("INSERT INTO crop_strip (unit_id, strip_no, uri) SELECT :u, count(*), :uri FROM crop_strip"),
            {"u": unit.unit_id, "uri": strip},
        )


@pytest.fixture
def kinds(archive, store):
    """One strip of each kind; returns them by kind."""
    for _ in range(4):
        archive.add()
    done, writing, cancelled, lost = take(archive, 4)
    strips = {
        "named": write(store, done),
        "broken off": write(store, replace(done, token=7)),
        "being written": write(store, writing),
        "half written": strip_name(replace(writing, token=5), 0) + ".part",
        "cancelled": write(store, cancelled),
        "erased": write(store, replace(done, analysis_id=99)),
        "of other bytes": write(store, replace(done, sha256="e" * 64)),
        "foreign": "ab/readme.png",
    }
    for strip in (strips["half written"], strips["foreign"]):
        (Path(store.url) / strip).parent.mkdir(parents=True, exist_ok=True)
        (Path(store.url) / strip).write_bytes(b"x")
    name(archive, done, strips["named"])
    strips["missing"] = strip_name(lost, 0)
    name(archive, lost, strips["missing"])
    with archive.sessions.begin() as session:
        ledger.finish_unit(session, done, "done")
        session.execute(
            text("UPDATE unit SET state = 'cancelled', token = token + 1 WHERE unit_id = :id"),
            {"id": cancelled.unit_id},
        )
    return strips


def test_a_whole_look_proves_which_strips_have_no_row_and_which_rows_no_strip(archive, store, kinds):
    audit = find_orphans(archive.sessions, store)
    assert set(audit.orphans) == {kinds[kind] for kind in ("broken off", "half written", "cancelled")}
    assert set(audit.strangers) == {kinds[kind] for kind in ("erased", "of other bytes", "foreign")}
    assert audit.missing == (kinds["missing"],)
    assert (audit.strips, audit.is_clean) == (8, False)


def test_an_empty_store_and_no_rows_are_clean(archive, store):
    assert find_orphans(archive.sessions, store).is_clean


@pytest.mark.parametrize("seconds", [60.0, 0.0])
def test_the_walk_removes_orphans_and_leaves_what_is_not_ours(archive, store, kinds, seconds, monkeypatch):
    monkeypatch.setattr(crop_walk, "FOLDERS_AT_ONCE", 1)
    removed = sum(walk_crops(archive.sessions, store, seconds) for _ in range(7))
    assert removed == 3
    audit = find_orphans(archive.sessions, store)
    assert audit.orphans == ()
    assert kinds["being written"] in store.find(kinds["being written"])
    with archive.sessions() as session:
        walk = session.execute(text("SELECT * FROM crop_walk")).one()
    assert (walk.position, walk.removed, walk.strangers) == ("", 3, 2)
    assert walk.ended_at is not None
    assert walk_crops(archive.sessions, store, seconds) == 0, "the next walk begins later"


def test_a_walk_that_was_broken_off_goes_on_where_it_stopped(archive, store, monkeypatch):
    monkeypatch.setattr(crop_walk, "FOLDERS_AT_ONCE", 1)
    for _ in range(3):
        archive.add()
    units = take(archive, 3)
    orphans = sorted(write(store, replace(unit, token=9)) for unit in units)
    seen = []
    for _ in orphans:
        walk_crops(archive.sessions, store, 0.0)
        seen.append(len(find_orphans(archive.sessions, store).orphans))
    assert seen == [2, 1, 0]


def test_a_strip_that_cannot_be_removed_does_not_hold_up_the_walk(archive, store, kinds, monkeypatch):
    remove = CropStore.remove

    def refuse(self, path):
        if path == kinds["broken off"]:
            raise RetryableError("Permission denied")
        remove(self, path)

    monkeypatch.setattr(CropStore, "remove", refuse)
    assert walk_crops(archive.sessions, store, 60.0) == 2
    assert find_orphans(archive.sessions, store).orphans == (kinds["broken off"],)


def test_cancelling_takes_the_crops_of_broken_off_attempts_along(archive, store):
    archive.add(units=2)
    stored, held = take(archive, 2)
    kept, lost = write(store, stored), write(store, replace(held, token=9))
    name(archive, stored, kept)
    with archive.sessions.begin() as session:
        ledger.finish_unit(session, stored, "done")
    late = write(store, held)
    cancel.cancel_job(archive.sessions, archive.job_id, store=store)
    assert find_orphans(archive.sessions, store).is_clean
    assert store.find(kept) == [kept]
    assert not store.find(lost)
    assert not store.find(late), "its worker can store it no longer"


def test_the_next_walk_begins_after_a_pause(archive, store):
    archive.add()
    (unit,) = take(archive)
    assert walk_crops(archive.sessions, store, 60.0) == 0
    orphan = write(store, replace(unit, token=9))
    assert walk_crops(archive.sessions, store, 60.0) == 0
    with archive.sessions.begin() as session:
        session.execute(
            text("UPDATE crop_walk SET began_at = began_at - interval '1 h', ended_at = now() - interval '61 s'")
        )
    assert walk_crops(archive.sessions, store, 60.0) == 0, "a walk of an hour is followed by a rest of an hour"
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE crop_walk SET began_at = ended_at"))
    assert walk_crops(archive.sessions, store, 60.0) == 1
    assert not store.find(orphan)
