"""Cancelling on a real PostgreSQL: what ends, what goes on for others, and what a worker may still store."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import text

from worker.errors import FacetError, LeaseLostError, RetryableError, UsageError
from worker.ledger import analyses
from worker.ledger import units as ledger
from worker.ledger.analyses import end_analysis
from worker.ledger.locks import keep_analysis
from worker.ledger.submission import cancel, submit


def take(archive, owner="one", limit=10, held=()):
    with archive.sessions.begin() as session:
        return ledger.lease_units(session, archive.lease(owner), limit, held=held)


def end(archive, unit, outcome="done"):
    with archive.sessions.begin() as session:
        ledger.finish_unit(session, unit, outcome, None)
        end_analysis(session, unit.analysis_id)


def sums(archive, job_id):
    with archive.sessions.begin() as session:
        row = session.execute(text("SELECT * FROM jobs WHERE job_id = :id"), {"id": job_id}).one()
    assert row.submitted == row.done + row.rejected + row.quarantined + row.cancelled + row.pending
    assert (row.finished_at is None) == (row.pending > 0)
    return row.done, row.cancelled, row.pending


def states(archive):
    with archive.sessions.begin() as session:
        return list(session.scalars(text("SELECT state FROM unit ORDER BY unit_id")))


def test_what_waits_is_cancelled_and_what_is_done_stays(archive):
    job = archive.submit(archive.files(0, 3)).job_id
    end(archive, take(archive, limit=1)[0])
    done = cancel.cancel_job(archive.sessions, job)
    assert (done.files, done.units, done.taken_back, done.shared) == (2, 2, 0, 0)
    assert sums(archive, job) == (1, 2, 0)
    assert states(archive) == ["done", "cancelled", "cancelled"]
    assert take(archive) == []
    with archive.sessions.begin() as session:
        found = session.execute(text("SELECT status, reason FROM media ORDER BY media_id")).all()
    assert [tuple(row) for row in found] == [
        ("done", None),
        *[("cancelled", f"cancelled: job {job} was cancelled")] * 2,
    ]


def test_a_unit_in_work_is_taken_from_its_worker(archive):
    job = archive.submit(archive.files(0, 1)).job_id
    (unit,) = take(archive)
    done = cancel.cancel_job(archive.sessions, job)
    assert (done.units, done.taken_back) == (1, 1)
    with archive.sessions.begin() as session:
        assert ledger.heartbeat(session, [unit], 60) == 0
    with pytest.raises(LeaseLostError):
        end(archive, unit)
    with archive.sessions.begin() as session:
        ledger.release_units(session, [unit])
        with pytest.raises(LeaseLostError):
            ledger.fail_unit(session, unit, "crashed: late", 3)
    assert states(archive) == ["cancelled"]


def test_a_file_that_another_job_waits_for_goes_on(archive):
    first = archive.submit(archive.files(0, 4)).job_id
    second = archive.submit(archive.files(2, 4)).job_id
    done = cancel.cancel_job(archive.sessions, first)
    assert (done.files, done.shared) == (2, 2)
    assert sums(archive, first) == (0, 4, 0)
    assert sums(archive, second) == (0, 0, 4)
    for unit in take(archive):
        end(archive, unit)
    assert sums(archive, second) == (4, 0, 0)
    assert sums(archive, first) == (2, 2, 0), "the two were analysed after all"


def test_the_last_of_two_jobs_cancels_what_they_share(archive):
    jobs = [archive.submit(archive.files(0, 2)).job_id for _ in range(2)]
    assert [cancel.cancel_job(archive.sessions, job).files for job in jobs] == [0, 2]
    assert states(archive) == ["cancelled"] * 2


def test_files_submitted_again_are_analysed(archive):
    first = archive.submit(archive.files(0, 2)).job_id
    cancel.cancel_job(archive.sessions, first)
    counts = archive.submit(archive.files(0, 2))
    assert (counts.known, counts.units) == (0, 2)
    units = take(archive)
    assert [unit.attempts for unit in units] == [1, 1]
    for unit in units:
        end(archive, unit)
    assert sums(archive, counts.job_id) == (2, 0, 0)


def test_a_film_goes_on_where_it_was_cancelled(archive):
    analysis_id = archive.add(units=3, kind="video")
    one, two, _ = take(archive)
    end(archive, one)
    cancel.cancel_job(archive.sessions, archive.job_id)
    with archive.sessions.begin() as session:
        assert session.execute(text("SELECT state FROM analysis")).scalar_one() == "cancelled"
        assert analyses.revive_analysis(session, analysis_id) == 2
    again = take(archive, "two")
    assert [unit.ordinal for unit in again] == [1, 2]
    with pytest.raises(LeaseLostError):
        end(archive, two)
    for unit in again:
        end(archive, unit)
    with archive.sessions.begin() as session:
        assert session.execute(text("SELECT state, is_current FROM analysis")).one() == ("done", True)


def test_a_worker_never_meets_a_unit_that_it_still_holds(archive):
    cancel.cancel_job(archive.sessions, archive.submit(archive.files(0, 1)).job_id)
    archive.submit(archive.files(0, 1))
    (unit,) = take(archive)
    cancel.cancel_job(archive.sessions, 3)
    archive.submit(archive.files(0, 1))
    assert take(archive, held=[unit.unit_id]) == []
    assert len(take(archive, "two")) == 1


def test_what_the_unit_did_to_workers_is_not_forgotten(archive):
    job = archive.submit(archive.files(0, 1)).job_id
    (unit,) = take(archive)
    with archive.sessions.begin() as session:
        ledger.fail_unit(session, unit, "crashed: first", 3)
    cancel.cancel_job(archive.sessions, job)
    archive.submit(archive.files(0, 1))
    assert take(archive) == [], "it is a suspect still"
    with archive.sessions.begin() as session:
        (again,) = ledger.lease_units(session, archive.lease(), 1, suspects=True)
    assert again.attempts == 2


def test_a_job_that_is_being_submitted_stops(archive):
    def cancel_soon(items):
        for number, item in enumerate(items):
            if number == 60:
                cancel.cancel_job(archive.sessions, 2)
            yield item

    with pytest.raises(FacetError, match="job 2 was cancelled"):
        archive.submit(cancel_soon(archive.files(0, 200)))
    assert sums(archive, 2) == (0, 50, 0)


def test_a_job_whose_files_so_far_are_done_stops_as_well(archive):
    def cancel_late(files):
        for number, file in enumerate(files):
            if number == 55:
                while units := take(archive):
                    for unit in units:
                        end(archive, unit)
                assert cancel.cancel_job(archive.sessions, 2).files == 0
            yield file

    with pytest.raises(FacetError, match="job 2 was cancelled"):
        archive.submit(cancel_late(archive.files(0, 200)))
    assert sums(archive, 2) == (50, 0, 0)


def test_rows_that_a_worker_is_storing_are_waited_for(archive, monkeypatch):
    job = archive.submit(archive.files(0, 2)).job_id
    unit = take(archive, limit=1)[0]
    with archive.sessions() as session:
        ledger.finish_unit(session, unit, "done")
        end_analysis(session, unit.analysis_id)
        monkeypatch.setattr(cancel, "CANCEL_LOCK_WAIT_SECONDS", 0.2)
        with pytest.raises(RetryableError, match="1 files"):
            cancel.cancel_job(archive.sessions, job)
        assert states(archive) == ["leased", "cancelled"]
        monkeypatch.setattr(cancel, "CANCEL_LOCK_WAIT_SECONDS", 20)
        thread = threading.Thread(target=cancel.cancel_job, args=(archive.sessions, job))
        thread.start()
        session.commit()
        thread.join()
    assert states(archive) == ["done", "cancelled"]
    assert sums(archive, job) == (1, 1, 0)


def test_a_file_that_is_being_finished_is_not_waited_for(archive, monkeypatch):
    monkeypatch.setattr(cancel, "CANCEL_LOCK_WAIT_SECONDS", 0.2)
    job = archive.submit(archive.files(0, 1)).job_id
    (unit,) = take(archive)
    with archive.sessions() as finishing:
        keep_analysis(finishing, unit)
        assert cancel.cancel_job(archive.sessions, job).files == 1
    assert sums(archive, job) == (0, 1, 0)


def test_windows_of_items_reach_all_files(archive, monkeypatch):
    monkeypatch.setattr(cancel, "ITEMS_PER_CANCEL", 7)
    job = archive.submit(archive.files(0, 23)).job_id
    told = []
    done = cancel.cancel_job(archive.sessions, job, lambda now: told.append(now.files))
    assert done.files == 23
    assert told == [7, 14, 21, 23]


def test_a_job_that_has_ended_or_never_was(archive):
    with pytest.raises(UsageError, match="no job 99"):
        cancel.cancel_job(archive.sessions, 99)
    job = archive.submit(archive.files(0, 1)).job_id
    end(archive, take(archive)[0])
    assert cancel.cancel_job(archive.sessions, job).files == 0
    with archive.sessions.begin() as session:
        assert not submit.is_cancelled(session, job)
