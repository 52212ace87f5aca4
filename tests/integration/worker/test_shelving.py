"""Units of paused jobs: in no index that workers read, and none is ever left there."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from worker.errors import MediaChanged
from worker.ledger import units as ledger
from worker.ledger.batches import lease_batch
from worker.ledger.changed import reject_changed
from worker.ledger.due import count_due, read_due_releases
from worker.ledger.locks import lock_files
from worker.ledger.releases import activate_release
from worker.ledger.submission import shelving
from worker.ledger.submission.cancel import cancel_job, cancel_release
from worker.ledger.submission.pausing import pause_job, resume_job
from worker.ledger.submission.shelving import shelve


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(shelving, "ITEMS_PER_SHELVING", 3)


def pause(archive, job, *, shelved=True):
    with archive.sessions.begin() as session:
        assert pause_job(session, job)
    if shelved:
        shelve(archive.sessions, job)


def resume(archive, job, *, unshelved=True):
    with archive.sessions.begin() as session:
        assert resume_job(session, job)
    if unshelved:
        shelve(archive.sessions, job)


def lease(archive, limit=100):
    """Lease what is due, and return the numbers of the units; nothing is kept."""
    with archive.sessions() as session:
        return sorted(unit.unit_id for unit in ledger.lease_units(session, archive.lease(), limit))


def ask(archive, query, **values):
    with archive.sessions.begin() as session:
        return session.scalars(text(query), values).all()


def shelf(archive):
    return ask(archive, "SELECT unit_id FROM unit WHERE shelved ORDER BY 1")


def open_jobs(archive):
    return ask(archive, "SELECT job_id FROM job WHERE shelf_next IS NOT NULL")


def test_units_of_a_paused_job_are_shelved_and_come_back(archive):
    large = archive.submit(archive.files(1, 10)).job_id
    small = archive.submit(archive.files(11, 2)).job_id
    every = lease(archive)
    assert len(every) == 12
    pause(archive, large)
    assert (len(shelf(archive)), lease(archive)) == (10, every[10:])
    assert open_jobs(archive) == []
    with archive.sessions.begin() as session:
        assert count_due(session, 100) == 2
    pause(archive, small)
    assert lease(archive) == []
    with archive.sessions.begin() as session:
        assert (read_due_releases(session), count_due(session, 100)) == ([], 0)
    assert ask(archive, "SELECT pending FROM jobs WHERE job_id = :id", id=large) == [10]
    resume(archive, large)
    assert (lease(archive), len(shelf(archive))) == (every[:10], 2)
    resume(archive, small)
    assert (lease(archive), shelf(archive)) == (every, [])


def test_a_lease_reads_no_unit_of_a_paused_job(archive):
    large = archive.submit(archive.files(1, 40)).job_id
    archive.submit(archive.files(41, 2))
    pause(archive, large)
    with archive.sessions() as session:
        for index in ("ix_unit_lease", "ix_unit_tried"):
            assert index in str(session.scalars(text("SELECT indexname FROM pg_indexes")).all())
        predicate = session.execute(text("SELECT pg_get_indexdef('facet.ix_unit_lease'::regclass)")).scalar_one()
        assert "NOT shelved" in predicate
        count = text("""SELECT count(*) FROM unit WHERE state = 'pending' AND attempts = 0 AND stage <> 'reprocess'
                        AND NOT shelved""")
        assert session.execute(count).scalar_one() == 2


def test_a_file_that_another_job_waits_for_is_not_shelved(archive):
    paused = archive.submit(archive.files(1, 6)).job_id
    archive.submit(archive.files(4, 6))  # three of them are shared
    pause(archive, paused)
    assert (len(shelf(archive)), len(lease(archive))) == (3, 6)


def test_a_job_that_comes_later_takes_its_files_from_the_shelf(archive):
    paused = archive.submit(archive.files(1, 6)).job_id
    pause(archive, paused)
    assert lease(archive) == []
    later = archive.submit(archive.files(5, 4), priority=-3).job_id
    assert (len(shelf(archive)), len(lease(archive))) == (4, 4)
    cancel_job(archive.sessions, later)
    shelve(archive.sessions)
    assert (len(shelf(archive)), lease(archive)) == (6, []), "they wait for the paused job alone again"
    resume(archive, paused)
    assert len(lease(archive)) == 6


def test_the_pause_holds_before_a_unit_is_shelved_and_the_resumption_when_upkeep_has_been(archive):
    job = archive.submit(archive.files(1, 10)).job_id
    pause(archive, job, shelved=False)
    assert (shelf(archive), lease(archive)) == ([], [])
    shelving._step(session := archive.sessions(), job)
    session.commit()
    assert (len(shelf(archive)), open_jobs(archive)) == (3, [job])  # broken off behind the first window
    resume(archive, job, unshelved=False)
    assert len(lease(archive)) == 7
    shelve(archive.sessions)  # as upkeep does
    assert (len(lease(archive)), shelf(archive), open_jobs(archive)) == (10, [], [])


@pytest.mark.parametrize("first", ["pause", "resume"])
def test_a_window_that_a_change_of_mind_overtakes_is_undone(archive, monkeypatch, first):
    """The other command commits while a window is written."""
    job = archive.submit(archive.files(1, 10)).job_id
    if first == "resume":
        pause(archive, job)
    turned = []

    def batches(session, row):
        if not turned:
            turned.append(row)
            with archive.sessions.begin() as other:
                (resume_job if first == "pause" else pause_job)(other, job)
        return plain(session, row)

    plain = shelving._batches
    monkeypatch.setattr(shelving, "_batches", batches)
    (pause if first == "pause" else resume)(archive, job)
    assert turned
    shelve(archive.sessions)
    expected = (10, 0) if first == "pause" else (0, 10)
    assert (len(lease(archive)), len(shelf(archive))) == expected
    assert open_jobs(archive) == []


def test_a_paused_job_that_is_cancelled_leaves_nothing_on_the_shelf(archive):
    job = archive.submit(archive.files(1, 7)).job_id
    pause(archive, job)
    done = cancel_job(archive.sessions, job)
    assert (done.units, done.files, shelf(archive)) == (7, 7, [])
    archive.submit(archive.files(1, 7))
    assert len(lease(archive)) == 7


def test_units_of_a_file_that_changed_and_of_a_retired_release_leave_the_shelf(archive):
    job = archive.submit(archive.files(1, 2, "video"), unit_seconds=100.0).job_id
    with archive.sessions.begin() as session:
        (held,) = ledger.lease_units(session, archive.lease(), 1)
    pause(archive, job)
    assert len(shelf(archive)) == 11
    with archive.sessions.begin() as session:
        lock_files(session, [held.media_id])
        reject_changed(session, held, MediaChanged("made"))
    assert len(shelf(archive)) == 6
    other = archive.register("other", age="other")
    with archive.sessions.begin() as session:
        activate_release(session, str(other.release_id))
    assert cancel_release(archive.sessions, archive.release_id, "retired") == 6
    assert shelf(archive) == []


def test_more_of_a_paused_job_is_submitted(archive):
    job = archive.submit(archive.files(1, 4)).job_id
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE job SET submission = 'open' WHERE job_id = :id"), {"id": job})
    pause(archive, job)
    assert open_jobs(archive) == [job], "it is looked at again"
    with archive.sessions.begin() as session:
        moved = "UPDATE job_item SET job_id = :job, item_no = item_no + 4 WHERE job_id = :other"
        other = archive.submit(archive.files(5, 3)).job_id
        session.execute(text(moved), {"job": job, "other": other})
        session.execute(text("UPDATE job SET submission = 'ended' WHERE job_id = :id"), {"id": job})
    shelve(archive.sessions)
    assert (len(shelf(archive)), open_jobs(archive)) == (7, [])


def test_batches_of_a_paused_job_are_shelved(archive):
    with archive.sessions.begin() as session:
        job = session.execute(
            text("""INSERT INTO job (name, options, kind, release_id) VALUES ('r', '{}', 'reprocess', :r)
                    RETURNING job_id"""), {"r": archive.release_id}
        ).scalar_one()  # fmt: skip
        session.execute(
            text("""INSERT INTO unit (release_id, stage, job_id, way, turn, first_id, last_id, face_count)
                    SELECT :r, 'reprocess', :j, 'reading', n, n, n, 1 FROM generate_series(1, 8) n"""),
            {"r": archive.release_id, "j": job},
        )

    def due():
        with archive.sessions() as session:
            return lease_batch(session, archive.lease())

    assert due() is not None
    pause(archive, job)
    assert (due(), len(shelf(archive))) == (None, 8)
    resume(archive, job)
    assert due() is not None
    assert shelf(archive) == []
    pause(archive, job)
    assert cancel_job(archive.sessions, job).batches == 8
    assert shelf(archive) == []
