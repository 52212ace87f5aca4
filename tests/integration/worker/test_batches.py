"""Batches of reprocess jobs in the ledger: leases, faults, cancelling, and the sums of the job; pausing of all jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from db.status.reprocess import read_reprocessing
from worker.deployment.exporter import LedgerCollector
from worker.errors import LeaseLostError, UsageError
from worker.ledger.batches import lease_batch, quarantine_exhausted_batches
from worker.ledger.due import count_due, count_open, has_batch, has_fresh
from worker.ledger.leases import LeaseHolder
from worker.ledger.status.job_status import read_status
from worker.ledger.submission.cancel import cancel_job
from worker.ledger.submission.pausing import pause_job, resume_job
from worker.ledger.units import fail_unit, finish_unit, heartbeat, lease_units, quarantine_exhausted

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tests.integration.worker.conftest import Archive
    from worker.ledger.batches import Batch

SUMS = ("submitted", "done", "rejected", "quarantined", "cancelled", "pending")


def add_batches(archive: Archive, count: int = 3, *, priority: int = 0, speed: str = "full") -> int:
    """Write a reprocess job with so many batches of 100 faces; return its number."""
    with archive.sessions.begin() as session:
        job_id = session.execute(
            text("""INSERT INTO job (name, kind, release_id, speed, submission)
                    VALUES ('again', 'reprocess', :release, :speed, 'open') RETURNING job_id"""),
            {"release": archive.release_id, "speed": speed},
        ).scalar_one()
        session.execute(
            text("""INSERT INTO unit (release_id, stage, job_id, way, tasks, first_id, last_id, face_count, priority,
                                      turn)
                    SELECT :release, 'reprocess', :job, 'crops', '{age}', n * 100, n * 100 + 99, 100, :priority, n * 100
                    FROM generate_series(0, :last) n"""),
            {"release": archive.release_id, "job": job_id, "last": count - 1, "priority": priority},
        )
    return int(job_id)


def sums(archive: Archive, job_id: int) -> dict[str, int]:
    with archive.sessions.begin() as session:
        row = session.execute(text(f"SELECT {', '.join(SUMS)} FROM jobs WHERE job_id = :id"), {"id": job_id}).one()
    found = dict(row._mapping)
    assert found["submitted"] == sum(found[name] for name in SUMS[1:])
    return found


def take(archive: Archive, owner: str = "one") -> Batch | None:
    with archive.sessions.begin() as session:
        return lease_batch(session, archive.lease(owner))


def state(session: Session, unit_id: int) -> str:
    return str(session.execute(text("SELECT state FROM unit WHERE unit_id = :id"), {"id": unit_id}).scalar_one())


def test_batches_are_leased_in_their_order_with_what_they_lack(archive: Archive) -> None:
    add_batches(archive, 2, speed="low")
    urgent = add_batches(archive, 1, priority=5)
    first, second = take(archive), take(archive, "two")
    assert first is not None
    assert second is not None
    assert (first.job_id, first.way, first.tasks, first.first_id, first.last_id) == (urgent, "crops", ("age",), 0, 99)
    assert (first.release_id, first.ids, first.face_count, first.share) == (archive.release_id, None, 100, 1.0)
    assert (second.first_id, second.share, second.attempts) == (0, 0.25, 1)


def test_a_worker_of_analyses_never_leases_a_batch(archive: Archive) -> None:
    add_batches(archive)
    with archive.sessions.begin() as session:
        assert lease_units(session, archive.lease(), 10) == []
        assert lease_units(session, archive.lease(), 10, suspects=True) == []
        assert not has_fresh(session, archive.release_id)
        assert has_batch(session)
        assert count_due(session, 10) == 3


def test_a_result_counts_as_planned_and_only_under_its_token(archive: Archive) -> None:
    job_id = add_batches(archive, 2)
    batch = take(archive)
    assert batch is not None
    with archive.sessions.begin() as session, pytest.raises(LeaseLostError):
        finish_unit(session, replace(batch, token=batch.token - 1), "done")
    with archive.sessions.begin() as session:
        assert heartbeat(session, [batch], 60.0) == 1
        finish_unit(session, batch, "done")
    assert sums(archive, job_id) | {"pending": 100, "done": 100} == sums(archive, job_id)


def test_a_failed_batch_is_leased_alone_and_quarantined_after_the_last_attempt(archive: Archive) -> None:
    job_id = add_batches(archive, 2)
    batch = take(archive)
    assert batch is not None
    with archive.sessions.begin() as session:
        assert not fail_unit(session, batch, "made: it failed", 3)
        session.execute(text("UPDATE unit SET not_before = NULL"))
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        suspect = leases.take_batch()
        assert suspect is not None
        assert (suspect.unit_id, suspect.attempts) == (batch.unit_id, 2)
        assert leases.take_batch() is None  # a suspect is alone
        leases.drop(suspect)
        fresh = leases.take_batch()
        assert fresh is not None
        assert fresh.unit_id != batch.unit_id
        with archive.sessions.begin() as session:
            session.execute(text("UPDATE unit SET not_before = NULL, state = 'pending' WHERE unit_id = :id"),
                            {"id": batch.unit_id})  # fmt: skip
        assert leases.take_batch() is None  # beside another one no suspect is taken
    with archive.sessions.begin() as session:
        assert state(session, fresh.unit_id) == "pending"  # returned untouched
        session.execute(text("UPDATE unit SET state = 'leased', owner = 'dead', attempts = 3, lease_until = now() - "
                             "interval '1 s' WHERE unit_id = :id"), {"id": batch.unit_id})  # fmt: skip
        assert quarantine_exhausted(session, archive.lease()) == []
        assert quarantine_exhausted_batches(session, 3) == 1
    assert sums(archive, job_id) | {"quarantined": 100, "pending": 100} == sums(archive, job_id)


def test_cancelling_takes_batches_back_and_ends_the_job(archive: Archive) -> None:
    job_id = add_batches(archive, 3)
    batch = take(archive)
    assert batch is not None
    with archive.sessions.begin() as session:
        session.execute(text("INSERT INTO reprocess_face VALUES (:job, 1), (:job, 2)"), {"job": job_id})
    done = cancel_job(archive.sessions, job_id)
    assert (done.units, done.batches, done.taken_back, done.files) == (3, 3, 1, 0)
    with archive.sessions.begin() as session, pytest.raises(LeaseLostError):
        finish_unit(session, batch, "done")
    assert sums(archive, job_id) | {"cancelled": 300, "submitted": 300} == sums(archive, job_id)
    with archive.sessions.begin() as session:
        job = session.execute(text("SELECT finished_at, submission FROM jobs WHERE job_id = :id"), {"id": job_id}).one()
        assert job.finished_at is not None
        assert job.submission == "ended"
        assert session.execute(text("SELECT count(*) FROM reprocess_face")).scalar_one() == 0
    assert cancel_job(archive.sessions, job_id).units == 0


def test_no_batch_of_a_paused_job_is_leased(archive: Archive) -> None:
    job_id = add_batches(archive, 1)
    with archive.sessions.begin() as session:
        assert pause_job(session, job_id)
        assert not pause_job(session, job_id)
        assert not has_batch(session)
        assert count_due(session, 10) == 0
    assert take(archive) is None
    with archive.sessions.begin() as session:
        assert session.execute(text("SELECT paused FROM jobs WHERE job_id = :id"), {"id": job_id}).scalar_one()
        assert resume_job(session, job_id)
        assert not resume_job(session, job_id)
    assert take(archive) is not None


def test_no_unit_of_a_paused_submission_is_leased(archive: Archive) -> None:
    archive.submit(archive.files(0, 2))
    other = archive.submit(archive.files(1, 2)).job_id  # shares file 1
    first = other - 1
    with archive.sessions.begin() as session:
        pause_job(session, first)
        assert count_due(session, 10) == 2
        assert count_open(session, first) == 1  # the one that it shares with a job that goes on
    with archive.sessions.begin() as session:
        assert len(lease_units(session, archive.lease(), 10)) == 2
        assert not has_fresh(session, archive.release_id)
        assert lease_units(session, archive.lease(), 10) == []
    with archive.sessions.begin() as session:
        resume_job(session, first)
        assert has_fresh(session, archive.release_id)
        assert len(lease_units(session, archive.lease(), 10)) == 1


def test_a_cancelled_job_does_not_keep_units_of_a_paused_one_going(archive: Archive) -> None:
    archive.submit(archive.files(0, 1))
    other = archive.submit(archive.files(0, 1)).job_id
    cancel_job(archive.sessions, other)
    with archive.sessions.begin() as session:
        pause_job(session, other - 1)
        assert lease_units(session, archive.lease(), 10) == []


def test_a_host_that_searches_readable_units_leaves_out_paused_ones(archive: Archive) -> None:
    archive.submit(archive.files(0, 2))
    job_id = archive.submit(archive.files(10, 1)).job_id
    with archive.sessions.begin() as session:
        pause_job(session, job_id)
        lease = replace(archive.lease(), unreachable=("/elsewhere",))
        assert [unit.location for unit in lease_units(session, lease, 10)] == ["/image/0", "/image/1"]


def test_only_a_job_that_goes_on_can_be_paused(archive: Archive) -> None:
    job_id = add_batches(archive, 1)
    cancel_job(archive.sessions, job_id)
    with archive.sessions.begin() as session:
        with pytest.raises(UsageError, match="has ended"):
            pause_job(session, job_id)
        with pytest.raises(UsageError, match="there is no job 999"):
            resume_job(session, 999)


def test_progress_of_a_reprocess_job_is_that_of_its_faces(archive: Archive) -> None:
    analysis = archive.add()
    job_id = add_batches(archive, 4)
    batch = take(archive)
    assert batch is not None
    with archive.sessions.begin() as session:
        finish_unit(session, batch, "done")
        session.execute(text("UPDATE unit SET started_at = now() - interval '2 minutes' WHERE state = 'done'"))
        session.execute(
            text("INSERT INTO reprocess_gap VALUES (:job, :analysis, 'no_source: made', 100)"),
            {"job": job_id, "analysis": analysis},
        )
    with archive.sessions.begin() as session:
        status = read_status(session, job_id)[0]
        assert (status.counts.kind, status.counts.release) == ("reprocess", "test")
        assert (status.counts.submitted, status.counts.rejected, status.percent) == (500, 100, 40.0)
        assert status.units == {"done": 1, "pending": 3}
        assert (status.pace.units, status.pace.faces) == (1, 100)
        assert status.time_left == "0:03:00"  # 300 faces at 100 a minute
        assert status.notes == ["100 faces cannot be filled in: no_source: made"]
        pause_job(session, job_id)
        paused = read_status(session, job_id)[0]
        assert paused.time_left is None
        assert f"paused; let it go on with `facet jobs resume {job_id}`" in paused.notes
        assert not read_status(session, archive.job_id)[0].counts.paused


def test_jobs_that_have_not_ended_are_figures(archive: Archive) -> None:
    job_id, other = add_batches(archive), add_batches(archive, 1)
    with archive.sessions.begin() as session:
        pause_job(session, other)
    analysis_id = archive.add()
    with archive.sessions.begin() as session:
        session.execute(
            text("""UPDATE unit SET state = 'quarantined', last_error = 'x', finished_at = now()
                    WHERE unit_id = (SELECT min(unit_id) FROM unit WHERE job_id = :job)"""),
            {"job": job_id},
        )
        session.execute(
            text(
                "INSERT INTO reprocess_gap (job_id, analysis_id, reason, face_count) VALUES (:j, :a, 'no_source: x', 7)"
            ),
            {"j": job_id, "a": analysis_id},
        )
    with archive.sessions.begin() as session:
        first, second = read_reprocessing(session)
    assert (first.job_id, first.release, first.pending, first.quarantined, first.gaps) == (job_id, "test", 200, 100, 7)
    assert (second.job_id, second.is_paused, second.pending) == (other, True, 100)
    shown = {
        (sample.name, sample.labels["job"]): sample.value
        for family in LedgerCollector(archive.sessions).collect()
        for sample in family.samples
        if sample.name.startswith("facet_reprocess_")
    }
    assert shown["facet_reprocess_pending_faces", str(job_id)] == 200
    assert shown["facet_reprocess_quarantined_faces", str(job_id)] == 100
    assert shown["facet_reprocess_gap_faces", str(job_id)] == 7
    assert (shown["facet_reprocess_paused", str(job_id)], shown["facet_reprocess_paused", str(other)]) == (0, 1)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE job SET finished_at = now()"))
    with archive.sessions.begin() as session:
        assert read_reprocessing(session) == []
