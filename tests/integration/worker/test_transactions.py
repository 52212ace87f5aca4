"""Transactions that PostgreSQL ends because of another one are tried again, and are no absence of the database."""

from __future__ import annotations

import threading
import time

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from worker import metrics
from worker.analysis.results import UnitResult
from worker.analysis.store.writer import Writer, WriterContext
from worker.errors import RetryableError
from worker.ledger.leases import LeaseHolder
from worker.storage import transactions
from worker.storage.crops import CropStore
from worker.storage.database import is_conflict, is_unreachable
from worker.storage.transactions import run_transaction

LOCK_MEDIA = text("SELECT FROM media_file WHERE media_id = :id FOR NO KEY UPDATE")
LOCK_UNIT = text("SELECT FROM unit WHERE unit_id = :id FOR NO KEY UPDATE")
WAITS = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(metrics, "_meters", [])
    registry = CollectorRegistry()
    metrics.start_metrics(registry)
    return lambda kind: registry.get_sample_value("facet_transaction_conflicts_total", {"transaction": kind})


class Stranger:
    """A transaction that locks against the order: a unit, then, once another transaction waits for that, its file."""

    def __init__(self, archive):
        self.sessions = archive.sessions
        self.holds = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with self.sessions.begin() as session, self.sessions() as other:
            session.execute(text("SET LOCAL deadlock_timeout = '60s'"))  # the other one is ended
            session.execute(LOCK_UNIT, {"id": 1})
            self.holds.set()
            while not other.execute(WAITS).scalar_one():
                other.rollback()  # a transaction sees the activity as it first looked at it
                time.sleep(0.01)
            session.execute(LOCK_MEDIA, {"id": 1})

    def __enter__(self):
        self.thread.start()
        self.holds.wait()

    def __exit__(self, *error):
        self.thread.join()


def test_a_deadlock_is_tried_again_and_counted(archive, counted):
    archive.add()
    tries = []

    def work(session):
        tries.append(1)
        session.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
        session.execute(LOCK_MEDIA, {"id": 1})
        session.execute(LOCK_UNIT, {"id": 1})
        return "done"

    with Stranger(archive):
        assert run_transaction(archive.sessions, "test", work) == "done"
    assert (len(tries), counted("test")) == (2, 1)


def test_a_writer_that_met_a_deadlock_goes_on(archive, counted):
    archive.add()
    with (
        LeaseHolder(archive.sessions, archive.lease()) as leases,
        Writer(WriterContext(archive.sessions, leases, CropStore(""), archive.ids, {}, 3)) as writer,
    ):
        (unit,) = leases.take(1)
        with Stranger(archive):
            writer.store(UnitResult(unit=unit, frame_count=1))
            writer.wait()
    assert counted("store") == 1
    with archive.sessions.begin() as session:
        assert session.execute(text("SELECT state, attempts FROM unit")).one() == ("done", 1)


@pytest.mark.parametrize("code", ["40P01", "40001"])
def test_what_goes_on_failing_ends_as_an_error_to_try_later(archive, code, monkeypatch, counted):
    monkeypatch.setattr(transactions, "FIRST_PAUSE_SECONDS", 0)
    fail = text(f"DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$")
    with archive.sessions() as session, pytest.raises(DBAPIError) as failed:
        session.execute(fail)
    assert is_conflict(failed.value)
    assert not is_unreachable(failed.value)
    with pytest.raises(RetryableError, match=f"met a deadlock {transactions.MAX_TRIES} times"):
        run_transaction(archive.sessions, "test", lambda session: session.execute(fail))
    assert counted("test") == transactions.MAX_TRIES


def test_other_failures_are_not_tried_again(archive, counted):
    with pytest.raises(DBAPIError, match="division by zero"):
        run_transaction(archive.sessions, "test", lambda session: session.execute(text("SELECT 1/0")))
    assert counted("test") is None
