"""Scheduled reprocessing, night after night: real rows of schedules, jobs and releases, and tools that only note."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from threading import Thread

import pytest
from sqlalchemy import text

from worker.errors import FacetError
from worker.ledger.status.health import run_health_checks
from worker.ledger.submission.pausing import pause_job, resume_job
from worker.schedules.reprocessing import Reprocessing, ReprocessOptions, turn_windows
from worker.schedules.runs import run_due, run_now


@dataclass(frozen=True)
class FakeRelease:
    release_id: int
    name: str


@dataclass
class Tools:
    """Writes rows of jobs as reprocessing does, and notes what else is asked."""

    aliases: dict[str, FakeRelease]
    refusal: str | None = None
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)

    def find_release(self, _session, wanted):
        return self.aliases.get(wanted)

    def start(self, session, release, options, name):
        statement = """INSERT INTO job (name, kind, release_id, speed, submission)
                       VALUES (:name, 'reprocess', :release_id, :speed, 'open') RETURNING job_id"""
        values = {"name": name, "release_id": release.release_id, "speed": options.speed}
        return session.execute(text(statement), values).scalar_one()

    def compare(self, release_id, job_id):
        if self.error is not None:
            raise self.error
        self.asked.append(f"compare {release_id} {job_id}")
        return "compared"

    def switch(self, release_id, reason):
        self.asked.append(f"switch {release_id} {reason}")
        return self.refusal


@dataclass
class Night:
    """A schedule of a plan, with the releases of an archive."""

    plan: object
    archive: object
    tools: Tools

    def pass_time(self, **span):
        """Turn the clock in steps of ten minutes; beat and a worker look after each."""
        end = self.plan.now + timedelta(**span)
        while self.plan.now < end:
            self.plan.now = min(end, self.plan.now + timedelta(minutes=10))
            self.look()

    def look(self):
        turn_windows(self.plan.sessions, self.plan.clock)
        action = Reprocessing(self.plan.sessions, self.tools, self.plan.clock).look
        run_due(self.plan.sessions, {"reprocess": action}, self.plan.clock)

    def jobs(self):
        """Return the numbers of all reprocess jobs, those that are paused negative."""
        with self.plan.sessions() as session:
            rows = session.execute(text("SELECT job_id, paused_at FROM job WHERE kind = 'reprocess' ORDER BY job_id"))
            return [job_id if paused_at is None else -job_id for job_id, paused_at in rows]

    def end(self, job_id, how="ended"):
        self.execute("UPDATE job SET finished_at = now(), submission = :how WHERE job_id = :id", id=job_id, how=how)

    def execute(self, statement, **values):
        with self.plan.sessions.begin() as session:
            session.execute(text(statement), values)

    def register(self, name):
        ids = self.archive.register(name, age=name)
        return FakeRelease(ids.release_id, name)


@pytest.fixture
def night(plan, archive):
    night = Night(plan, archive, Tools({}))
    night.tools.aliases["candidate"] = night.register("spring")
    return night


WEEKDAYS = {"window": "22:00-06:00", "days": "mon-fri", "zone": "UTC"}


def test_a_job_runs_in_its_windows_alone_until_it_has_ended(night, plan):
    number = plan.add("reprocess", ReprocessOptions(then="diff").as_json(), **WEEKDAYS)
    night.pass_time(hours=9)
    assert night.jobs() == [], "Friday, 21:00"
    night.pass_time(hours=1)
    (job,) = night.jobs()
    assert job > 0
    night.pass_time(hours=7)
    assert night.jobs() == [job], "Saturday, 05:00"
    night.pass_time(hours=1)
    assert night.jobs() == [-job], "Saturday, 06:00"
    assert plan.read(number).last_result == f"job {job} is paused until 2026-03-30 22:00 UTC, when the window opens"
    night.pass_time(hours=63, minutes=50)
    assert night.jobs() == [-job], "Monday, 21:50"
    night.pass_time(minutes=10)
    assert night.jobs() == [job], "Monday, 22:00"
    night.end(job)
    night.pass_time(minutes=10)
    assert night.tools.asked == [f"compare {night.tools.aliases['candidate'].release_id} {job}"]
    found = plan.read(number)
    assert found.last_result == f"job {job} has ended; compared"
    assert found.last_success_at == plan.now
    night.pass_time(hours=7)
    assert night.jobs() == [job], "once a window"
    night.pass_time(hours=17)
    assert len(night.jobs()) == 2, "what came in meanwhile is caught up the next night"


def test_a_release_that_comes_while_the_window_is_open_is_taken_at_once(night, plan):
    first = night.tools.aliases.pop("candidate")
    number = plan.add("reprocess", ReprocessOptions().as_json(), **WEEKDAYS)
    night.pass_time(hours=11)
    assert (night.jobs(), plan.read(number).last_result) == ([], "no release is called candidate")
    night.tools.aliases["candidate"] = first
    night.pass_time(minutes=10)
    (job,) = night.jobs()
    night.end(job)
    night.pass_time(minutes=30)
    assert night.jobs() == [job]
    night.tools.aliases["candidate"] = night.register("summer")
    night.pass_time(minutes=10)
    assert len(night.jobs()) == 2


def test_the_switch_is_held_until_the_gate_lets_it_through(night, plan):
    release = night.tools.aliases["candidate"].release_id
    night.tools.refusal = "coverage: 98 of 100 faces have all answers"
    number = plan.add("reprocess", ReprocessOptions(then="activate").as_json(), **WEEKDAYS)
    night.pass_time(hours=11)
    (first,) = night.jobs()
    night.end(first)
    night.pass_time(minutes=10)
    assert night.tools.asked == [
        f"compare {release} {first}",
        f"switch {release} schedule {number} (reprocess) after job {first}",
    ]
    assert plan.read(number).held_reason == night.tools.refusal
    with plan.sessions() as session:
        held = [one for one in run_health_checks(session) if "holds a release" in one]
    assert held == [f"schedule {number} (reprocess) holds a release: {night.tools.refusal}"]
    night.pass_time(days=3)
    second = night.jobs()[-1]
    assert (second != first, plan.read(number).held_reason) == (True, night.tools.refusal), "it is held until it is not"
    night.end(second)
    night.tools.refusal = None
    night.pass_time(minutes=10)
    found = plan.read(number)
    assert (found.held_reason, found.last_result) == (None, f"job {second} has ended; compared; the release is active")


def test_a_release_that_is_no_longer_the_candidate_is_not_activated(night, plan):
    number = plan.add("reprocess", ReprocessOptions(then="activate").as_json(), **WEEKDAYS)
    night.pass_time(hours=11)
    (job,) = night.jobs()
    night.tools.aliases["candidate"] = night.register("summer")
    night.end(job)
    night.pass_time(minutes=10)
    assert night.tools.asked == []
    assert plan.read(number).last_result == f"job {job} has ended; its release is no longer candidate"
    night.pass_time(minutes=10)
    assert len(night.jobs()) == 2


def test_the_job_of_a_release_that_another_one_replaced_is_cancelled(night, plan):
    """The candidate moves while its job is at work: nobody waits for what is left of it."""
    number = plan.add("reprocess", ReprocessOptions(then="activate").as_json(), **WEEKDAYS)
    night.pass_time(hours=11)
    (job,) = night.jobs()
    night.tools.aliases["candidate"] = summer = night.register("summer")
    night.pass_time(minutes=10)
    assert plan.read(number).last_result == f"job {job} was cancelled, because candidate is release summer now"
    night.pass_time(minutes=10)
    first, second = night.jobs()
    assert (first, plan.read(number).last_release_id) == (job, summer.release_id)
    with plan.sessions() as session:
        ended = session.execute(
            text("SELECT job_id FROM job WHERE cancelled_at IS NOT NULL AND finished_at IS NOT NULL")
        )
        assert ended.scalars().all() == [job]
    night.end(second)
    night.pass_time(minutes=10)
    assert night.tools.asked[0] == f"compare {summer.release_id} {second}"


@pytest.mark.parametrize("paused_by", ["the window", "a human"])
def test_a_paused_job_is_cancelled_too_when_its_release_is_replaced(night, plan, paused_by):
    plan.add("reprocess", ReprocessOptions().as_json(), window="22:00-06:00")
    night.pass_time(hours=11)
    (job,) = night.jobs()
    if paused_by == "a human":
        with plan.sessions.begin() as session:
            pause_job(session, job)
    else:
        night.pass_time(hours=8)
    assert night.jobs() == [-job]
    night.tools.aliases["candidate"] = night.register("summer")
    night.pass_time(hours=24)
    assert len(night.jobs()) == 2
    with plan.sessions() as session:
        cancelled = session.execute(text("SELECT job_id FROM job WHERE cancelled_at IS NOT NULL")).scalars().all()
    assert cancelled == [job]


def test_a_job_goes_on_where_no_other_release_has_the_alias(night, plan):
    plan.add("reprocess", ReprocessOptions().as_json(), window="22:00-06:00")
    night.pass_time(hours=11)
    (job,) = night.jobs()
    del night.tools.aliases["candidate"]  # it was activated by hand
    night.pass_time(minutes=30)
    assert night.jobs() == [job]
    with plan.sessions() as session:
        assert session.execute(text("SELECT cancelled_at FROM job WHERE job_id = :id"), {"id": job}).scalar() is None


def test_what_is_held_is_forgotten_with_its_release(night, plan):
    night.tools.refusal = "no"
    number = plan.add("reprocess", ReprocessOptions(then="activate").as_json(), **WEEKDAYS)
    night.pass_time(hours=11)
    night.end(night.jobs()[0])
    night.pass_time(minutes=10)
    assert plan.read(number).held_reason == "no"
    del night.tools.aliases["candidate"]
    night.pass_time(minutes=10)
    assert plan.read(number).held_reason is None


def test_a_job_that_somebody_paused_is_not_resumed_by_a_window(night, plan):
    plan.add("reprocess", ReprocessOptions().as_json(), window="22:00-06:00")
    night.pass_time(hours=11)
    (job,) = night.jobs()
    with plan.sessions.begin() as session:
        pause_job(session, job)
    night.pass_time(hours=24)
    assert night.jobs() == [-job], "paused by hand within the window"
    with plan.sessions.begin() as session:
        resume_job(session, job)
    night.pass_time(hours=7)
    assert night.jobs() == [-job], "paused by the window"
    with plan.sessions.begin() as session:
        resume_job(session, job)
    night.pass_time(hours=1)
    assert night.jobs() == [job], "resumed by hand outside of the window"
    with plan.sessions.begin() as session:
        pause_job(session, job)
    night.pass_time(hours=24)
    assert night.jobs() == [-job], "paused by hand outside of the window"


@pytest.mark.parametrize(
    ("how", "words", "good"),
    [("cancelled", "because it was cancelled", True), ("broken", "still lacks rows", False)],
)
def test_nothing_follows_a_job_that_did_not_fill_in_everything(night, plan, how, words, good):
    number = plan.add("reprocess", ReprocessOptions(then="activate").as_json(), **WEEKDAYS)
    night.pass_time(hours=11)
    (job,) = night.jobs()
    if how == "cancelled":
        night.execute("UPDATE job SET cancelled_at = now() WHERE job_id = :id", id=job)
    else:
        night.end(job, "broken")
    night.pass_time(hours=2)
    assert (night.tools.asked, night.jobs()) == ([], [job])
    assert words in plan.read(number).last_result
    with plan.sessions() as session:
        assert bool([one for one in run_health_checks(session) if words in one]) is not good


def test_a_step_that_fails_is_taken_again_and_nothing_is_started_meanwhile(night, plan, caplog):
    number = plan.add("reprocess", ReprocessOptions(then="diff").as_json(), **WEEKDAYS)
    night.pass_time(hours=11)
    (job,) = night.jobs()
    night.end(job)
    night.tools.error = FacetError("the disk is full")
    night.pass_time(minutes=20)
    assert plan.read(number).last_result == "failed: the disk is full"
    night.tools.error = None
    night.pass_time(minutes=10)
    assert (len(night.tools.asked), night.jobs()) == (1, [job])
    assert {record.action for record in caplog.records} == {"schedule_failed"}


def test_a_night_without_beat_is_left_out_and_the_next_one_goes_on(night, plan):
    plan.add("reprocess", ReprocessOptions().as_json(), window="22:00-06:00")
    night.pass_time(hours=17)
    (job,) = night.jobs()
    plan.now += timedelta(hours=25)  # from 05:00 to 06:00 of the next day
    night.look()
    assert night.jobs() == [-job]
    plan.now += timedelta(hours=17)
    night.look()
    assert night.jobs() == [job]


def test_several_beats_and_workers_start_one_job(night, plan):
    plan.add("reprocess", ReprocessOptions().as_json(), window="22:00-06:00")
    plan.now += timedelta(hours=10)
    threads = [Thread(target=night.look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    night.look()
    assert len(night.jobs()) == 1


@pytest.mark.parametrize("times", [{"cron": "0 22 * * *"}, {"every": "24h"}])
def test_without_a_window_a_job_is_started_at_its_times_and_never_beside_the_one_before(night, plan, times):
    plan.add("reprocess", ReprocessOptions(then="diff", speed="low").as_json(), **times)
    night.pass_time(hours=24)
    (job,) = night.jobs()
    night.pass_time(hours=72)
    assert night.jobs() == [job]
    night.end(job)
    night.pass_time(minutes=10)
    assert len(night.tools.asked) == 1
    night.pass_time(hours=24)
    assert len(night.jobs()) == 2


def test_by_hand_a_job_is_started_and_goes_on_outside_of_its_window(night, plan):
    number = plan.add("reprocess", ReprocessOptions().as_json(), **WEEKDAYS)
    forced = Reprocessing(plan.sessions, night.tools, plan.clock, forced=True)
    outcome = run_now(plan.sessions, number, {"reprocess": forced.look}, plan.clock)
    (job,) = night.jobs()
    assert outcome.result == f"job {job} fills in what release spring lacks"
    night.pass_time(hours=9)
    assert night.jobs() == [job]
    night.pass_time(hours=10)
    assert night.jobs() == [-job], "its window closed"
    outcome = run_now(plan.sessions, number, {"reprocess": forced.look}, plan.clock)
    assert (night.jobs(), outcome.result) == ([job], f"job {job} is at work")


def test_options_come_back_as_they_were_written(plan):
    options = ReprocessOptions(release="7", heads=("age", "gender"), then="activate", priority=-5, speed="low")
    number = plan.add("reprocess", options.as_json(), window="22:00-06:00")
    assert ReprocessOptions.of(plan.read(number)) == options
    assert ReprocessOptions.of(plan.read(plan.add("reprocess", {}, days="sat"))) == ReprocessOptions()
