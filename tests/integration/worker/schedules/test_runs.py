"""Due schedules are run once, by one process at a time, and again where that fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from threading import Barrier, Event, Thread

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from worker.errors import FacetError, RetryableError, UsageError
from worker.schedules.rows import (
    RunOutcome,
    claim,
    end_run,
    read_due,
    read_now,
    read_schedules,
    remove_schedule,
    set_regroup_period,
)
from worker.schedules.runs import is_running, run_due, run_now


def test_a_schedule_is_due_at_its_times_by_the_clock_of_the_database(plan):
    number = plan.add("regroup", cron="0 3 * * *", zone="Europe/Berlin")
    for _ in range(72):
        plan.pass_time(hours=1)
    assert [when for _, when in plan.ran] == ["28 02:00", "29 01:00", "30 01:00"]
    found = plan.read(number)
    assert (found.last_result, found.attempts) == ("done", 0)
    assert found.last_due_at == found.last_started_at == found.last_ended_at == found.last_success_at
    assert f"{found.next_at:%d %H:%M}" == "31 01:00"


@pytest.mark.parametrize("times", [{"cron": "0 * * * *"}, {"every": "1h"}])
def test_runs_that_were_missed_are_caught_up_once(plan, times):
    plan.add("regroup", **times)
    plan.pass_time(days=3, minutes=10)
    assert len(plan.ran) == 1
    plan.pass_time(minutes=40)
    assert len(plan.ran) == 1
    plan.pass_time(minutes=20)
    assert len(plan.ran) == 2


def test_a_period_is_not_stretched_by_runs_that_begin_late(plan):
    plan.add("regroup", every="24h")
    for _ in range(3):
        plan.pass_time(hours=24, minutes=2)
    assert plan.read(1).next_at == plan.now + timedelta(hours=24) - timedelta(minutes=6)


def test_only_enabled_schedules_of_the_asked_kinds_are_due(plan):
    numbers = [plan.add(kind, every="1h") for kind in ("regroup", "retention", "reprocess", "regroup")]
    with plan.sessions.begin() as session:
        session.execute(text("UPDATE schedule SET enabled = false WHERE schedule_id = :id"), {"id": numbers[3]})
        assert read_due(session, ("regroup",), plan.now + timedelta(hours=1)) == [numbers[0]]
    plan.pass_time(hours=1)
    assert [number for number, _ in plan.ran] == numbers[:2]


def test_an_unfinished_run_goes_on_at_once_and_a_rest_is_kept(plan):
    plan.add("retention", every="30s")
    plan.outcome = RunOutcome(result="erased 5 files", again_seconds=0)
    plan.pass_time(seconds=30)
    plan.pass_time(seconds=1)
    assert len(plan.ran) == 2
    plan.outcome = RunOutcome(result="nothing is due", rest_seconds=600)
    plan.pass_time(seconds=1)
    plan.pass_time(seconds=599)
    assert len(plan.ran) == 3
    plan.pass_time(seconds=1)
    assert len(plan.ran) == 4


def fail(error):
    def action(_schedule):
        raise error

    return action


@pytest.mark.parametrize(
    "error", [RetryableError("the crop store is full"), FacetError("no"), DataError("SELECT", {}, Exception("of data"))]
)
def test_a_run_that_fails_is_tried_again_with_growing_pauses_and_then_waits_for_its_next_time(plan, caplog, error):
    plan.add("regroup", every="24h")
    number = plan.add("regroup", every="24h")
    plan.now += timedelta(hours=24)
    began, tried = plan.now, []

    def action(schedule):
        tried.append(schedule.schedule_id)
        if schedule.schedule_id < number:
            raise error
        return RunOutcome(result="done")

    minutes = []
    for _ in range(200):
        if run_due(plan.sessions, {"regroup": action}, plan.clock):
            minutes.append((plan.now - began).total_seconds() / 60)
        plan.now += timedelta(seconds=30)
    assert minutes == [0, 1, 3, 7, 15]
    assert tried.count(number) == 1, "another schedule does not wait for it"
    found = plan.read(number - 1)
    assert found.last_result.startswith("failed: ")
    assert str(getattr(error, "orig", error)) in found.last_result
    assert (found.attempts, found.last_success_at, found.next_at) == (0, None, began + timedelta(hours=24))
    assert {record.action for record in caplog.records} == {"schedule_failed"}


def test_a_process_that_dies_in_a_run_needs_nobody_to_notice(plan):
    plan.add("regroup", every="24h")
    plan.now += timedelta(hours=24)
    with plan.sessions.begin() as session:
        assert claim(session, 1, plan.now) is not None
        assert claim(session, 1, plan.now) is None
    plan.pass_time(seconds=59)
    assert plan.ran == []
    plan.pass_time(seconds=1)
    assert len(plan.ran) == 1
    assert plan.read(1).attempts == 0


def test_two_processes_never_run_one_schedule_at_once(plan):
    """Each of eight has the schedule due; one runs it, however often it becomes due meanwhile."""
    plan.add("regroup", every="30s")
    plan.now += timedelta(seconds=30)
    begin, end, inside, most = Barrier(8), Event(), [], []

    def action(schedule):
        inside.append(schedule)
        most.append(len(inside))
        end.wait(20)
        inside.pop()
        return RunOutcome(result="done")

    def process():
        begin.wait()
        run_due(plan.sessions, {"regroup": action}, plan.clock)

    threads = [Thread(target=process) for _ in range(8)]
    for thread in threads:
        thread.start()
    while not most or sum(thread.is_alive() for thread in threads) > 1:
        threads[0].join(0.01)
    plan.now += timedelta(hours=1)
    assert run_due(plan.sessions, {"regroup": action}, plan.clock) == 0
    with plan.sessions() as session:
        assert is_running(session, 1)
    end.set()
    for thread in threads:
        thread.join()
    assert most == [1]
    with plan.sessions() as session:
        assert not is_running(session, 1)


def test_a_schedule_that_was_removed_during_its_run_stays_removed(plan):
    plan.add("regroup", every="30s")

    def action(schedule):
        with plan.sessions.begin() as session:
            remove_schedule(session, schedule.schedule_id)
        return RunOutcome(result="done")

    plan.now += timedelta(seconds=30)
    assert run_due(plan.sessions, {"regroup": action}, plan.clock) == 1
    with plan.sessions() as session:
        assert read_schedules(session) == []


def test_a_run_by_hand_comes_whatever_the_time_until_it_is_finished(plan):
    number = plan.add("retention", cron="0 3 * * *")
    results = iter([RunOutcome(result="erased 5 files", again_seconds=0), RunOutcome(result="nothing is due")])
    outcome = run_now(plan.sessions, number, {"retention": lambda _: next(results)}, plan.clock)
    assert outcome.result == "nothing is due"
    assert f"{plan.read(number).next_at:%d %H:%M}" == "28 03:00"
    with pytest.raises(FacetError, match="the crop store is full"):
        run_now(plan.sessions, number, {"retention": fail(FacetError("the crop store is full"))}, plan.clock)
    assert plan.read(number).last_result == "failed: the crop store is full"
    with pytest.raises(FacetError, match="no schedule 9 any more"):
        run_now(plan.sessions, 9, {}, plan.clock)


def test_a_run_by_hand_does_not_begin_beside_another(plan):
    plan.add("regroup", every="30s")

    def action(_schedule):
        with pytest.raises(FacetError, match="is being run"):
            run_now(plan.sessions, 1, {"regroup": action}, plan.clock)
        return RunOutcome(result="done")

    assert run_now(plan.sessions, 1, {"regroup": action}, plan.clock).result == "done"


def test_a_schedule_that_is_added_takes_the_place_of_the_default_one(plan):
    with plan.sessions.begin() as session:
        set_regroup_period(session, 24)
    number = plan.add("regroup", every="12h")
    plan.add("retention", every="1h")
    with plan.sessions() as session:
        assert [found.schedule_id for found in read_schedules(session)] == [number, number + 1]
        with pytest.raises(UsageError, match="no schedule 1; see"):
            remove_schedule(session, 1)


@pytest.mark.parametrize("before", [None, 24.0])
def test_the_setting_of_regrouping_becomes_the_default_row(plan, before):
    def default():
        with plan.sessions() as session:
            return next((row for row in read_schedules(session) if row.is_default), None)

    def set_to(hours):
        with plan.sessions.begin() as session:
            set_regroup_period(session, hours)

    if before is not None:
        set_to(before)
        first = default().next_at
        set_to(before)
        assert default().next_at == first, "a start does not put it off"
    set_to(5)
    found = default()
    assert (found.kind, found.times.every_seconds, found.enabled, found.created_by) == (
        "regroup",
        18_000,
        True,
        "facet",
    )
    with plan.sessions() as session:
        assert abs((found.next_at - read_now(session)).total_seconds() - 18_000) < 60
    set_to(0)
    assert (default().enabled, default().times.every_seconds) == (False, 18_000)
    set_to(0.0001)
    assert (default().enabled, default().times.every_seconds) == (True, 1)


def test_without_a_default_row_a_setting_of_zero_adds_none(plan):
    with plan.sessions.begin() as session:
        set_regroup_period(session, 0)
        assert read_schedules(session) == []


@pytest.mark.parametrize(
    "changes",
    ["cron = '* * * * *'", "every_seconds = NULL", "days = '{mon}'", "kind = 'other'", "every_seconds = 0"],
)
def test_the_database_refuses_rows_without_one_way_of_times(plan, changes):
    plan.add("regroup", every="1h")
    with plan.sessions() as session, pytest.raises(Exception, match="ck_schedule"):
        session.execute(text(f"UPDATE schedule SET {changes}"))


def test_a_row_comes_back_as_it_was_written(plan):
    number = plan.add("reprocess", {"release": "candidate"}, window="22:00-06:00", days="mon-fri", zone="Europe/Berlin")
    found = plan.read(number)
    assert found.times.describe() == "22:00-06:00 mon,tue,wed,thu,fri Europe/Berlin"
    assert found.options == {"release": "candidate"}
    assert found.next_at == plan.now.replace(hour=21)
    assert replace(found) == found
    plan.now += timedelta(hours=12)
    assert plan.read(plan.add("reprocess", window="22:00-06:00", zone="Europe/Berlin")).next_at == plan.now, (
        "it is open"
    )


def test_the_end_of_a_run_of_a_schedule_that_is_gone_is_no_error(plan):
    with plan.sessions.begin() as session:
        end_run(session, 99, RunOutcome(result="done"), plan.now)
