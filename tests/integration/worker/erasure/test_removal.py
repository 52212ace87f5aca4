"""Files that erasures leave to be removed: one that cannot be removed holds up no other, and no copy is left behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text

from worker.erasure.health import read_waiting
from worker.erasure.removal import MAX_FAILURES
from worker.errors import FacetError, RetryableError
from worker.ledger.upkeep.crop_walk import find_orphans
from worker.storage.crops import CropStore


def folder_of(house, media_id):
    row = house.session.execute(
        text("SELECT sha256, analysis_id FROM media_file JOIN analysis USING (media_id) WHERE media_id = :m"),
        {"m": media_id},
    ).first()
    house.session.commit()
    return f"{row.sha256[:2]}/{row.sha256}/{row.analysis_id}"


@pytest.mark.parametrize("name", ["0-7-0.png", "0-7-0.png.part", "5-0-3.png", "0-1.png"])
def test_strips_that_no_row_names_lose_the_person_too(house, eraser, people, archive, name):
    together = sorted(house.crowd.files)[-2]
    orphan = f"{folder_of(house, together)}/{name}"
    house.stores.crops.write(orphan, house.pixels(1, 3))
    receipt = eraser.erase_person(people[0])
    assert orphan in receipt.files.crops
    assert not house.stores.crops.find(orphan)
    assert find_orphans(archive.sessions, house.stores.crops).is_clean
    assert house.rows_of("crop_check") == set()


def test_a_failed_check_of_crops_is_repeated_later(house, eraser, people, monkeypatch):
    together = sorted(house.crowd.files)[-2]
    orphan = f"{folder_of(house, together)}/0-7-0.png"
    house.stores.crops.write(orphan, house.pixels(1, 3))
    with monkeypatch.context() as patched:
        patched.setattr("worker.erasure.removal.check_crops", _away)
        receipt = eraser.erase_person(people[0])
    assert receipt.files.left == len(house.rows_of("crop_check")) > 0
    house.session.commit()
    assert eraser.finish_files() == 0
    assert not house.stores.crops.find(orphan)


def _away(*_args):
    raise RetryableError("the store does not answer")


def test_a_file_that_cannot_be_removed_holds_up_no_other(house, eraser, people, monkeypatch):
    bad = folder_of(house, min(house.crowd.files))
    remove, tries = CropStore.remove, []

    def refuse(self, path):
        if path.startswith(bad):
            tries.append(path)
            raise FacetError("Operation not permitted")
        remove(self, path)

    monkeypatch.setattr(CropStore, "remove", refuse)
    receipt = eraser.erase_media([str(media) for media in house.crowd.files])
    assert receipt.files.left == 1
    assert {strip.rpartition("/")[0] for strip in house.strips()} == {bad}
    assert eraser.finish_files(again=False) == 1
    assert len(tries) == 1, "not before its pause is over"
    (said,) = read_waiting(house.session, house.stores.staging)
    house.session.commit()
    assert "Operation not permitted" in said
    monkeypatch.undo()
    assert eraser.finish_files() == 0
    assert house.strips() == set()


def test_a_store_that_is_away_is_asked_a_few_times_only(house, eraser, people, monkeypatch):
    tries = []
    monkeypatch.setattr("worker.erasure.removal.remove_file", lambda *args: tries.append(args) or _away())
    receipt = eraser.erase_media([str(media) for media in house.crowd.files])
    assert receipt.files.left == len(house.rows_of("file_removal")) == len(house.crowd.files)
    assert len(tries) == MAX_FAILURES


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_store_that_is_not_mounted_is_not_taken_for_an_empty_one(house, eraser, people, state):
    hidden = house.folder.with_name("mounted")
    house.folder.rename(hidden)
    if state == "empty":
        house.folder.mkdir()
    assert eraser.erase_person(people[0]).files.left > 0
    if state == "empty":
        house.folder.rmdir()
    hidden.rename(house.folder)
    assert eraser.finish_files() == 0
    assert len(house.strips()) == 11 - 3
    assert house.rows_of("file_removal") == set()


@pytest.mark.parametrize("damage", [b"", b"\x89PNG\r\n\x1a\n", b"no picture at all"])
def test_a_damaged_strip_goes_whole(house, eraser, people, damage):
    together = sorted(house.crowd.files)[-2]
    strip = f"{folder_of(house, together)}/0-0.png"
    (house.folder / strip).write_bytes(damage)
    receipt = eraser.erase_person(people[0])
    assert strip in receipt.files.crops
    assert (receipt.files.left, receipt.files.blanked) == (0, ())
    assert not house.stores.crops.find(strip)


def test_copies_on_other_hosts_wait_for_them_and_cost_nothing_here(house, eraser, people, monkeypatch):
    elsewhere = [f"/elsewhere/staging/{n % 256:02x}/{n % 256:02x}{n:062x}" for n in range(3000)]
    house.session.execute(
        text("INSERT INTO file_removal (kind, path) SELECT 'staged', unnest(cast(:paths AS text[]))"),
        {"paths": elsewhere},
    )
    house.session.commit()
    strips = house.strips()
    monkeypatch.setattr("worker.erasure.files._copies", lambda *_: pytest.fail("not this host's"))
    assert eraser.finish_files() == 3000
    assert len(eraser.erase_person(people[0]).sealed) == 4
    assert len(house.strips()) == len(strips) - 3
    (said,) = read_waiting(house.session, house.stores.staging)
    assert "3,000 copies" in said
    assert "/elsewhere/staging" in said


def test_the_budget_of_time_is_kept(house, eraser, people):
    house.session.execute(
        text("INSERT INTO file_removal (kind, path) SELECT 'crops', 'aa/' || n FROM generate_series(1, 5) n")
    )
    house.session.commit()
    assert eraser.finish_files(0.0) == 5
    assert eraser.finish_files() == 0


def test_a_slow_store_leaves_the_rest_for_later(house, eraser, people):
    receipt = replace(eraser, files_seconds=0.0).erase_media([str(media) for media in house.crowd.files])
    assert receipt.files.left == len(house.crowd.files)
    assert eraser.finish_files() == 0
    assert house.strips() == set()


def test_copies_of_members_go_whatever_their_ending_and_none_is_noted_without(house, eraser, people):
    files = sorted(house.crowd.files)
    shas = [
        house.session.execute(text("SELECT sha256 FROM media_file WHERE media_id = :m"), {"m": media}).scalar_one()
        for media in files[:3]
    ]
    house.session.execute(
        text("""UPDATE media_file SET location = '/other/staging/' || left(sha256, 2) || '/' || sha256 || '.png'
                WHERE media_id = :m"""),
        {"m": files[2]},
    )
    house.session.commit()
    for sha, ending in zip(shas[:2], ("jpg", "remote"), strict=True):
        (house.stores.staging / sha[:2]).mkdir(exist_ok=True)
        (house.stores.staging / sha[:2] / f"{sha}.{ending}").write_bytes(b"copy")
    receipt = eraser.erase_media([str(media) for media in files])
    assert receipt.files.staged == (f"{shas[0][:2]}/{shas[0]}.jpg", f"{shas[1][:2]}/{shas[1]}.remote")
    assert not [path for path in house.stores.staging.rglob("*") if path.is_file()]
    (left,) = house.session.scalars(text("SELECT path FROM file_removal"))
    assert left == f"/other/staging/{shas[2][:2]}/{shas[2]}"
    assert receipt.files.left == 1


def test_a_late_worker_of_an_earlier_attempt_leaves_nothing(house, eraser, people):
    """A unit that was leased twice: the first holder may wake up at any time."""
    media = min(house.crowd.files)
    folder = folder_of(house, media)
    house.session.execute(
        text(
            """UPDATE unit SET token = 2 WHERE analysis_id IN (SELECT analysis_id FROM analysis WHERE media_id = :m)"""
        ),
        {"m": media},
    )
    house.session.commit()
    assert eraser.erase_media([str(media)]).files.watched == 1
    house.stores.crops.write(f"{folder}/0-1-0.png", np.ones((1, 8, 8, 3), np.uint8))
    eraser.finish_files(again=False)
    assert house.stores.crops.find(folder), "not before its pause is over"
    house.session.execute(text("UPDATE file_removal SET not_before = now()"))
    house.session.commit()
    eraser.finish_files(again=False)
    assert not house.stores.crops.find(folder)
