"""Erasure beside workers that write, crashes and stores that are away."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from worker.erasure import removal
from worker.errors import LeaseLostError, RetryableError
from worker.ledger import units as ledger


def test_a_running_analysis_can_no_longer_store_anything(archive, house, eraser):
    archive.add(units=2, kind="video")
    with archive.sessions.begin() as session:
        first, second = ledger.lease_units(session, archive.lease(), 2)
    late = f"{first.sha256[:2]}/{first.sha256}/{first.analysis_id}/0-0.png"
    house.stores.crops.write(late, house.pixels(1, 2))
    receipt = eraser.erase_media([str(first.media_id)])
    assert (receipt.files.crops, receipt.files.watched) == ((late,), 1)
    for unit in (first, second):
        with archive.sessions.begin() as session, pytest.raises(LeaseLostError):
            ledger.finish_unit(session, unit, "done")
        with archive.sessions.begin() as session, pytest.raises(LeaseLostError):
            ledger.fail_unit(session, unit, "crashed", 3)
    house.stores.crops.write(late, house.pixels(1, 2))  # by the worker, before it learned of it
    eraser.finish_files()
    assert house.strips() == set()
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE file_removal SET again_until = now()"))
    eraser.finish_files()
    assert house.rows_of("file_removal") == set()
    assert archive.job() == {"submitted": 1, "done": 0, "rejected": 1, "quarantined": 0, "pending": 0}


@pytest.mark.parametrize("attempts", [1, 2])
def test_crops_of_a_file_are_looked_for_again_where_an_attempt_may_still_write_them(archive, eraser, attempts):
    archive.add(kind="video")
    with archive.sessions.begin() as session:
        (unit,) = ledger.lease_units(session, archive.lease(), 1)
        ledger.finish_unit(session, unit, "done")
        session.execute(text("UPDATE unit SET token = :attempts"), {"attempts": attempts})
    assert eraser.erase_media([str(unit.media_id)]).files.watched == attempts - 1


def test_an_erasure_waits_for_a_worker_that_stores_and_never_blocks_it(archive, eraser):
    archive.add(units=2, kind="video")
    with archive.sessions.begin() as session:
        unit, _ = ledger.lease_units(session, archive.lease(), 2)
    with archive.sessions.begin() as session:
        ledger.finish_unit(session, unit, "done")
        with pytest.raises(RetryableError, match="run it again"):
            eraser.erase_media([str(unit.media_id)])
    assert eraser.erase_media([str(unit.media_id)]).rows["unit"] == 2


def test_files_that_a_crash_left_are_removed_by_the_next(house, eraser, people, monkeypatch):
    strips = house.strips()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(removal, "remove_file", die)
        with pytest.raises(KeyboardInterrupt):
            eraser.erase_person(people[0])
    assert house.strips() == strips
    assert eraser.finish_files() == 0
    assert len(house.strips()) == len(strips) - 3
    assert house.rows_of("file_removal") == set()


def test_a_store_that_is_away_leaves_an_entry(house, eraser, people):
    hidden = house.folder.with_name("away")
    house.folder.rename(hidden)
    house.folder.write_text("a file where a folder was expected")
    receipt = eraser.erase_person(people[0])
    assert receipt.files.left > 0
    house.folder.unlink()
    hidden.rename(house.folder)
    assert eraser.finish_files() == 0
    assert house.rows_of("file_removal") == set()
