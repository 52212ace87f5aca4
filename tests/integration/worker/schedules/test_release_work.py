"""The operations of scheduled reprocessing on real releases, jobs, reports and the gate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from worker.deployment.scheduled.release_work import ReleaseWork
from worker.errors import RetryableError, UsageError
from worker.ledger.releases import find_active
from worker.schedules.reprocessing import Reprocessing, ReprocessOptions, turn_windows
from worker.schedules.runs import run_due
from worker.storage.crops import CropStore


@pytest.fixture
def work(archive, tmp_path):
    return ReleaseWork(archive.sessions, CropStore(str(tmp_path / "crops")), tmp_path / "reports")


@pytest.fixture
def candidate(archive):
    ids = archive.register("spring", age="spring")
    execute(archive, "UPDATE release SET alias = 'candidate' WHERE release_id = :id", id=ids.release_id)
    return ids


def execute(archive, statement, **values):
    with archive.sessions.begin() as session:
        session.execute(text(statement), values)


def judge(archive, release_id, *worse):
    """Write the verdict of a comparison into a release."""
    execute(
        archive,
        """UPDATE release SET manifest = jsonb_set(manifest, '{verdict}', jsonb_build_object(
               'base', 'made', 'judged', 10, 'worse', to_jsonb(cast(:worse AS text[])))) WHERE release_id = :id""",
        id=release_id,
        worse=list(worse),
    )


def test_a_release_is_found_by_alias_name_or_number(archive, work, candidate):
    with archive.sessions() as session:
        for wanted in ("candidate", "spring", str(candidate.release_id)):
            assert work.find_release(session, wanted).release_id == candidate.release_id
        assert work.find_release(session, "previous") is None
        with pytest.raises(UsageError, match="0 releases have the name"):
            work.find_release(session, "winter")


def test_a_report_is_written_or_the_reason_is_given(archive, work, candidate, tmp_path):
    words = work.compare(candidate.release_id, 7)
    (path,) = (tmp_path / "reports").iterdir()
    assert (path.name, str(path) in words) == (f"release-{candidate.release_id}-job-7.html", True)
    assert "spring" in path.read_text(encoding="utf-8")
    assert "nothing to compare" in work.compare(archive.release_id, 7)
    blocked = replace(work, reports=path)
    with pytest.raises(RetryableError, match="cannot be written"):
        blocked.compare(candidate.release_id, 7)


def test_the_gate_decides_about_the_switch(archive, work, candidate):
    judge(archive, candidate.release_id, "utkface, gender, all: worse")
    refusal = work.switch(candidate.release_id, "by a test")
    assert "is held back: verdict: worse than made: utkface, gender, all: worse." in refusal
    with archive.sessions() as session:
        assert find_active(session).release_id == archive.release_id
    judge(archive, candidate.release_id)
    assert work.switch(candidate.release_id, "by a test") is None
    with archive.sessions() as session:
        assert find_active(session).release_id == candidate.release_id
        row = session.execute(text("SELECT reason, gate, forced FROM release_history ORDER BY history_id DESC")).first()
    assert (row.reason, row.gate["open"], row.forced) == ("by a test", True, False)
    assert work.switch(candidate.release_id, "again") is None


def test_a_night_from_the_candidate_to_the_switch(archive, work, candidate, plan):
    """The job is planned and ended by workers, of which there is none here."""
    judge(archive, candidate.release_id)
    options = ReprocessOptions(then="activate", heads=("age",), speed="low", priority=3)
    number = plan.add("reprocess", options.as_json(), window="11:00-13:00")

    def look(minutes):
        plan.pass_time(minutes=minutes)
        turn_windows(plan.sessions, plan.clock)
        run_due(plan.sessions, {"reprocess": Reprocessing(plan.sessions, work, plan.clock).look}, plan.clock)

    look(1)
    with archive.sessions() as session:
        job = session.execute(
            text("SELECT job_id, name, speed, release_id, options FROM job ORDER BY job_id DESC")
        ).first()
    assert (job.name, job.speed) == (f"spring by schedule {number} (reprocess)", "low")
    assert (job.release_id, job.options["tasks"], job.options["priority"]) == (candidate.release_id, ["age"], 3)
    look(1)
    assert plan.read(number).last_result == f"job {job.job_id} is at work"
    execute(archive, "UPDATE job SET finished_at = now(), submission = 'ended' WHERE job_id = :id", id=job.job_id)
    look(1)
    found = plan.read(number)
    assert found.last_result.startswith(f"job {job.job_id} has ended; the report is ")
    assert found.last_result.endswith("; the release is active")
    look(5)
    assert plan.read(number).last_result == "no release is called candidate"
