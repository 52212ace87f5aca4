"""When an idle worker is deaf, and when it only rests."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter

from worker.deployment import watchdog
from worker.deployment.watchdog import Patience, Watch
from worker.errors import RetryableError


def over(patience, *looks):
    return [patience.is_over(now, idle=idle, messages=messages) for now, idle, messages in looks]


def test_messages_that_lie_beside_an_idle_worker():
    assert over(Patience(60), (0, True, 3), (30, True, 3), (60, True, 2)) == [False, False, True]


def test_a_worker_that_took_one_meanwhile_or_found_none_is_not_deaf():
    assert over(Patience(60), (0, True, 3), (30, False, 3), (60, True, 3), (90, True, 3)) == [False] * 4
    assert over(Patience(60), (0, True, 3), (30, True, 0), (60, True, 3), (90, True, 3)) == [False] * 4


class Worker:
    """Counts what the watch does to it."""

    def __init__(self, monkeypatch):
        self.told, self.calls, self.ended = [], Counter(), threading.Event()
        monkeypatch.setattr(os, "kill", self.kill)
        monkeypatch.setattr(watchdog, "GRACE_SECONDS", 30)

    def kill(self, pid, number):
        self.told.append((pid, number))
        self.ended.set()

    def ring(self):
        self.calls["ring"] += 1
        self.ended.set()

    def watch(self, *, busy=False, messages=lambda: 0, taken=lambda: 7):
        watched = Watch(0.06, taken=taken, busy=lambda: busy, messages=messages, ring=self.ring)
        with watched:
            self.ended.wait(1)
        return watched


def test_a_deaf_worker_is_told_to_end(monkeypatch, caplog):
    worker = Worker(monkeypatch)
    assert worker.watch(messages=lambda: 2).deaf
    assert worker.told == [(os.getpid(), signal.SIGTERM)]
    assert "worker_deaf" in [record.action for record in caplog.records]


def test_a_lost_message_is_sent_again(monkeypatch):
    worker = Worker(monkeypatch)
    assert not worker.watch().deaf
    assert worker.calls["ring"] >= 1
    assert worker.told == []


def test_a_busy_worker_and_a_broker_that_is_away_are_left_alone(monkeypatch):
    def away():
        raise RetryableError("no Redis answers")

    for how in ({"busy": True, "messages": lambda: 2}, {"messages": away}):
        worker = Worker(monkeypatch)
        monkeypatch.setattr(worker, "ended", threading.Event())
        worker.ended.wait = lambda _: threading.Event().wait(0.2)
        assert not worker.watch(**how).deaf
        assert (worker.told, worker.calls) == ([], Counter())
