"""An idle worker has stalled only where messages wait for it."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter

from worker.deployment import watchdog
from worker.deployment.watchdog import StallDetector, Watchdog
from worker.errors import RetryableError


def over(detector, *looks):
    return [detector.observe(now, idle=idle, messages=messages) for now, idle, messages in looks]


def test_messages_that_lie_beside_an_idle_worker():
    assert over(StallDetector(60), (0, True, 3), (30, True, 3), (60, True, 2)) == [False, False, True]


def test_a_worker_that_took_one_meanwhile_or_found_none_has_not_stalled():
    assert over(StallDetector(60), (0, True, 3), (30, False, 3), (60, True, 3), (90, True, 3)) == [False] * 4
    assert over(StallDetector(60), (0, True, 3), (30, True, 0), (60, True, 3), (90, True, 3)) == [False] * 4


class Worker:
    """Counts the acts of the watchdog."""

    def __init__(self, monkeypatch):
        self.signals, self.calls, self.ended = [], Counter(), threading.Event()
        monkeypatch.setattr(os, "kill", self.kill)
        monkeypatch.setattr(watchdog, "GRACE_SECONDS", 30)

    def kill(self, pid, number):
        self.signals.append((pid, number))
        self.ended.set()

    def wake(self):
        self.calls["wake"] += 1
        self.ended.set()

    def watch(self, *, busy=False, messages=lambda: 0, taken=lambda: 7):
        watched = Watchdog(0.06, taken=taken, busy=lambda: busy, messages=messages, wake=self.wake)
        with watched:
            self.ended.wait(1)
        return watched


def test_a_stalled_worker_is_told_to_end(monkeypatch, caplog):
    worker = Worker(monkeypatch)
    assert worker.watch(messages=lambda: 2).stalled
    assert worker.signals == [(os.getpid(), signal.SIGTERM)]
    assert "worker_stalled" in [record.action for record in caplog.records]


def test_wake_ups_are_sent_for_a_lost_message(monkeypatch):
    worker = Worker(monkeypatch)
    assert not worker.watch().stalled
    assert worker.calls["wake"] >= 1
    assert worker.signals == []


def test_a_busy_worker_and_a_broker_that_is_away_are_left_alone(monkeypatch):
    def away():
        raise RetryableError("no Redis answers")

    for how in ({"busy": True, "messages": lambda: 2}, {"messages": away}):
        worker = Worker(monkeypatch)
        monkeypatch.setattr(worker, "ended", threading.Event())
        worker.ended.wait = lambda _: threading.Event().wait(0.2)
        assert not worker.watch(**how).stalled
        assert (worker.signals, worker.calls) == ([], Counter())
