"""Celery's messages on an absent broker are one line, and others stay."""

from __future__ import annotations

import logging

import pytest

from worker.deployment import broker
from worker.deployment.broker import AbsenceFilter, WarningFilter

MESSAGES = (
    "consumer: Connection to broker lost. Trying to re-establish the connection... (%s:%s)",
    "consumer: Cannot connect to %s: %s.\n%s\n",
    "beat: Connection error: %s. Trying again in %s seconds...",
    "Message Error: %s\n%s",
)


@pytest.fixture
def noisy():
    found = logging.getLogger("celery.beat.test")
    absences = AbsenceFilter()
    found.addFilter(absences)
    yield found
    found.removeFilter(absences)


def say(noisy, message):
    noisy.error(message, *["x"] * message.count("%s"), exc_info=ConnectionRefusedError("111"))


def test_an_absence_is_one_line_however_often_celery_tries(noisy, caplog):
    for message in MESSAGES * 3:
        say(noisy, message)
    assert [record.action for record in caplog.records] == ["broker_away"]
    assert caplog.records[0].exc_info is None


def test_a_later_absence_is_reported_again(noisy, caplog, monkeypatch):
    say(noisy, MESSAGES[0])
    monkeypatch.setattr(broker, "RECOVERY_SECONDS", -1.0)
    say(noisy, MESSAGES[0])
    assert len(caplog.records) == 2


def test_other_messages_stay(noisy, caplog):
    noisy.error("Process %r pid:%r exited", "a", 1)
    assert caplog.messages == ["Process 'a' pid:1 exited"]


def test_warnings_that_concern_nobody_here_are_dropped():
    shown = WarningFilter()
    warned = logging.LogRecord(
        "py.warnings", 30, "x.py", 1, "%s", ("x.py:1: CPendingDeprecationWarning: \nIn 5.1",), None
    )
    other = logging.LogRecord("py.warnings", 30, "x.py", 1, "%s", ("x.py:1: UserWarning: look here",), None)
    assert not shown.filter(warned)
    assert shown.filter(other)
