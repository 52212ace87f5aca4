"""Erased files: all their rows and crops go, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from worker.erasure.receipt import fingerprint
from worker.errors import UsageError
from worker.identity import correct
from worker.identity.gallery import Gallery
from worker.identity.identifier import identify_pending


def test_a_file_goes_from_every_table_and_every_store(house, eraser, people):
    together, alone = sorted(house.crowd.files)[-2:]
    session = house.session
    sha, uri = session.execute(text("SELECT sha256, uri FROM media_file WHERE media_id = :m"), {"m": alone}).one()
    correct.name_people(session, [correct.NewName(people[3], "Eve", "her passport")])
    correct.merge_people(session, [people[3], people[0]])
    correct.undo_correction(session)
    session.execute(
        text("""WITH k AS (INSERT INTO person_alike (first_person_id, second_person_id, trunk_id)
                           VALUES (least(:a, :b), greatest(:a, :b), :t) RETURNING *)
                INSERT INTO pair_answer SELECT first_person_id, second_person_id, 'skipped', NULL, 'ines' FROM k"""),
        {"a": people[0], "b": people[3], "t": house.crowd.trunk_id},
    )
    session.execute(
        text("""WITH p AS (INSERT INTO regroup_proposal (trunk_id, reason, fingerprint, last_appearance_id)
                           VALUES (:r, 'much', '', 99) RETURNING proposal_id)
                INSERT INTO regroup_change SELECT proposal_id, appearance_id, person_id, :gone, -1 FROM p, appearance
                WHERE media_id IN (:m, :other)"""),
        {"r": house.crowd.trunk_id, "gone": people[3], "m": alone, "other": together},
    )
    copy = house.stores.staging / sha[:2] / f"{sha}.jpg"
    copy.parent.mkdir()
    copy.write_bytes(b"member")
    session.commit()
    doomed = house.numbers_of(alone) | {"person": {people[3]}}
    before, strips = house.everything(), house.strips()
    session.commit()

    receipt = eraser.erase_media([sha])

    after = house.everything()
    assert house.mentions(doomed) == []
    words = (sha, uri, "Eve", "passport")
    assert not any(word in row for rows in after.values() for row in rows for word in words)
    assert house.strips() == {strip for strip in strips if sha not in strip}
    assert not (house.folder / sha[:2] / sha).exists()
    assert not copy.exists()
    # The counts of the job, the sign for processes that hold people, and a merge that also concerns another person.
    changed = {
        "job", "trunk_state", "correction", "correction_anchor", "person_total", "person_reading", "person_embedding",
    }  # fmt: skip
    assert all(after[table] <= before[table] for table in after if table not in changed)
    gone = {table: len(before[table]) - len(after[table]) for table in before if len(before[table]) > len(after[table])}
    assert receipt.rows == gone
    assert (receipt.media[0].sha256, receipt.people, receipt.sealed) == (sha, (people[3],), ())
    assert receipt.files.crops == tuple(sorted(strips - house.strips()))
    assert receipt.files.staged == (f"{sha[:2]}/{sha}.jpg",)
    assert receipt.files.left == 0
    assert house.job() == {"submitted": 11, "done": 11, "rejected": 0, "quarantined": 0, "pending": 0, "erased": 1}


def test_other_people_of_the_file_lose_only_what_was_in_it(house, eraser, people):
    together = sorted(house.crowd.files)[-2]
    session = house.session
    held = Gallery(house.crowd.trunk_id)
    held.refresh(session)
    before = {row.person_id: row for row in session.execute(text("SELECT person_id, appearance_count FROM people"))}
    eraser.erase_media([str(together)])
    after = {row.person_id: row for row in session.execute(text("SELECT person_id, appearance_count FROM people"))}
    assert {who: before[who].appearance_count - after[who].appearance_count for who in after} == {
        people[0]: 1, people[1]: 1, people[2]: 1, people[3]: 0,
    }  # fmt: skip
    fresh = Gallery(house.crowd.trunk_id)
    one, other = held.refresh(session), fresh.refresh(session)
    assert np.array_equal(np.sort(one.person), np.sort(other.person))
    assert np.allclose(one.sums[np.argsort(one.person)], other.sums[np.argsort(other.person)])


def test_a_gallery_in_memory_drops_erased_people(house, eraser, people):
    held = Gallery(house.crowd.trunk_id)
    assert people[3] in held.refresh(house.session).person
    eraser.erase_media([str(max(house.crowd.files))])
    house.session.commit()
    identify_pending(house.session, held)  # there is nothing to identify, and yet no person is remembered
    assert not held.find(np.array([people[3]])).sums.any()
    assert len(held._people) == 0
    assert people[3] not in held.refresh(house.session).person
    assert len(held.refresh(house.session)) == 3


def test_a_name_stays_with_a_person_who_stays(house, eraser, people):
    session = house.session
    correct.name_people(session, [correct.NewName(people[0], "Ada")])
    for _ in range(2):
        house.photo(0)
    house.identify()
    named = sorted({media for (media, _), who in house.crowd.who().items() if who == people[0]})[:-2]
    eraser.erase_media([str(media) for media in named])
    house.photo(0)
    house.identify()
    correct.name_people(session, [correct.NewName(people[1], "Bo")])
    assert house.crowd.names() == {people[0]: "Ada", people[1]: "Bo"}


def test_a_dry_run_lists_what_would_go_and_changes_nothing(house, eraser, people):
    before, strips = house.everything(), house.strips()
    house.session.commit()
    trial = replace(eraser, dry_run=True)
    plans = [trial.erase_media([str(max(house.crowd.files))]), trial.erase_person(people[0])]
    assert (house.everything(), house.strips()) == (before, strips)
    house.session.commit()
    done = [eraser.erase_media([str(max(house.crowd.files))]), eraser.erase_person(people[0])]
    assert [(plan.rows, plan.files) for plan in plans] == [(one.rows, one.files) for one in done]


def test_a_file_that_does_not_exist_is_refused(house, eraser, people):
    last = max(house.crowd.files)
    house.session.execute(text("UPDATE media_file SET uri = '/twice' WHERE media_id <> :m"), {"m": last})
    house.session.commit()
    eraser.erase_media([f"/crowd/../crowd/{_path(house, last)}"])
    for wrong, message in (
        (lambda: eraser.erase_media([str(last)]), f"there is no file {last}"),
        (lambda: eraser.erase_media(["f" * 64]), "there is no file f"),
        (lambda: eraser.erase_media(["/nowhere.jpg"]), "there is no file /nowhere.jpg"),
        (lambda: eraser.erase_media(["/twice"]), "10 files were found at /twice"),
        (lambda: eraser.erase_person(people[3]), f"there is no person {people[3]}"),
    ):
        with pytest.raises(UsageError, match=message):
            wrong()


def _path(house, media_id: int) -> str:
    query = text("SELECT location FROM media_file WHERE media_id = :m")
    return Path(house.session.execute(query, {"m": media_id}).scalar_one()).name


def test_a_receipt_proves_that_it_was_not_changed(house, eraser, people):
    told = eraser.erase_media([str(max(house.crowd.files))]).as_dict()
    assert told["receipt_sha256"] == fingerprint(told)
    assert fingerprint(told | {"rows": {}}) != told["receipt_sha256"]
