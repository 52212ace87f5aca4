from __future__ import annotations

import logging
import threading
import time

import pytest
from sqlalchemy.exc import OperationalError

from worker.errors import FacetError, RetryableError
from worker.web.background import COST_SHARE, MAX_RESULTS, MAX_THREADS, Background, Ended, Failed, Memo, Running


def wait_for(background, key, kind):
    until = time.monotonic() + 10
    while not isinstance(background.state(key), kind):
        assert time.monotonic() < until, background.state(key)
        time.sleep(0.005)
    return background.state(key)


@pytest.fixture
def background():
    return Background()


def test_work_runs_once_and_its_result_is_kept(background):
    go, runs = threading.Event(), []

    def work(show):
        show("half way")
        runs.append(1)
        go.wait(10)
        return 42

    assert background.state("a") is None
    assert background.start("a", work)
    until = time.monotonic() + 10
    while background.state("a").note != "half way":
        assert time.monotonic() < until
    assert not background.start("a", work)
    go.set()
    ended = wait_for(background, "a", Ended)
    assert (ended.value, runs) == (42, [1])
    assert background.start("a", work)
    wait_for(background, "a", Ended)
    assert runs == [1, 1]


def fails_with(error):
    def work(_show):
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (FacetError("no room; free some"), "no room; free some"),
        (FacetError("postgresql://me:secret@db/x is away"), "postgresql://me:***@db/x is away"),
        (OperationalError("x", {}, Exception("gone")), "the database failed: gone"),
    ],
)
def test_an_error_is_shown_as_its_sentence(background, error, shown):
    background.start("a", fails_with(error))
    assert wait_for(background, "a", Failed).message.startswith(shown)


def test_an_error_that_is_not_ours_is_logged_and_does_not_show(background, caplog):
    with caplog.at_level(logging.ERROR):
        background.start("a", fails_with(ZeroDivisionError("secret path")))
        failed = wait_for(background, "a", Failed)
    assert "secret path" not in failed.message
    assert [record.action for record in caplog.records] == ["page_work_failed"]


def test_too_much_at_once_is_refused(background):
    go = threading.Event()
    for key in range(MAX_THREADS):
        background.start(key, lambda _: go.wait(10))
    with pytest.raises(RetryableError, match="are going on"):
        background.start("one more", lambda _: None)
    assert background.state("one more") is None
    go.set()
    for key in range(MAX_THREADS):
        wait_for(background, key, Ended)
    assert background.start("one more", lambda _: None)


def test_only_so_many_results_are_kept_and_none_that_goes_on(background):
    go = threading.Event()
    background.start("runs", lambda _: go.wait(10))
    for key in range(MAX_RESULTS + 5):
        background.start(key, lambda _: None)
        wait_for(background, key, Ended)
    assert isinstance(background.state("runs"), Running)
    assert background.state(0) is None
    assert isinstance(background.state(MAX_RESULTS + 4), Ended)
    go.set()


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_an_answer_is_kept_for_as_long_as_it_cost():
    clock, reads = Clock(), []
    memo = Memo(clock)

    def read():
        reads.append(clock.now)
        clock.now += 0.5
        return len(reads)

    assert memo.read("a", read) == 1
    clock.now += COST_SHARE * 0.5 - 0.1
    assert memo.read("a", read) == 1
    clock.now += 0.2
    assert memo.read("a", read) == 2
    assert memo.read("b", read) == 3
    memo.forget("a")
    assert memo.read("a", read) == 4


def test_an_answer_can_ask_to_be_kept_longer():
    clock = Clock()
    memo = Memo(clock)
    assert memo.read("a", lambda: 5, keep_seconds=lambda value: value * 10.0) == 5
    clock.now += 49
    assert memo.read("a", lambda: 6) == 5
    clock.now += 2
    assert memo.read("a", lambda: 6) == 6


def test_those_who_ask_at_once_share_one_reading():
    memo, reads, barrier = Memo(), [], threading.Barrier(5)

    def read():
        reads.append(1)
        time.sleep(0.1)
        return "answer"

    def ask():
        barrier.wait(10)
        answers.append(memo.read("a", read))

    answers = []
    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (answers, reads) == (["answer"] * 5, [1])


def test_a_reading_that_fails_is_not_kept():
    memo = Memo()
    with pytest.raises(FacetError):
        memo.read("a", lambda: fails_with(FacetError("no"))(None))
    assert memo.read("a", lambda: 1) == 1
