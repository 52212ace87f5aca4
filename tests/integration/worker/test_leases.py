"""Leases of a process whose database goes away: it keeps none that it does not work on."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from worker.analysis.results import UnitResult
from worker.analysis.store.writer import Writer, WriterContext
from worker.errors import RetryableError
from worker.ledger.leases import LeaseHolder
from worker.storage.crops import CropStore

LEASE_SECONDS = 0.6


class Outage:
    """Sessions of a database that can be away, or lose its answer to a COMMIT."""

    def __init__(self, sessions):
        self.sessions = sessions
        self.is_away = self.loses_answer = False

    @contextmanager
    def begin(self):
        if self.is_away:
            raise OperationalError("SELECT", {}, OSError("the server closed the connection"))
        with self.sessions.begin() as session:
            yield session
        if self.loses_answer:
            self.loses_answer = False
            raise OperationalError("COMMIT", {}, OSError("the server closed the connection"))


def units(archive):
    with archive.sessions.begin() as session:
        statement = "SELECT state, attempts, lease_until > now() AS holds FROM unit ORDER BY unit_id"
        return [tuple(row) for row in session.execute(text(statement))]


def hold(outage, archive, unreturned=None):
    return LeaseHolder(outage, archive.lease(seconds=LEASE_SECONDS), unreturned=unreturned)


def lose_database(outage, archive, unreturned=None):
    """Drain until the database goes away, so that nothing can be returned."""

    def drain():
        with hold(outage, archive, unreturned) as leases:
            assert len(leases.take(2)) == 2
            outage.is_away = True
            raise RetryableError("the database failed")

    with pytest.raises(RetryableError):
        drain()
    outage.is_away = False


def take_in_vain(outage, archive, unreturned, spoil):
    def drain():
        with hold(outage, archive, unreturned) as leases:
            spoil()
            leases.take(2)

    with pytest.raises(OperationalError):
        drain()


def test_leases_of_before_an_outage_run_out_while_the_process_works_on(archive):
    for _ in range(4):
        archive.add()
    outage = Outage(archive.sessions)
    lose_database(outage, archive)
    with hold(outage, archive) as leases:
        assert [unit.unit_id for unit in leases.take(2)] == [3, 4]
        time.sleep(3 * LEASE_SECONDS)
        assert units(archive) == [("leased", 1, False)] * 2 + [("leased", 1, True)] * 2


def test_what_could_not_be_returned_goes_back_when_the_process_drains_again(archive):
    for _ in range(2):
        archive.add()
    outage, unreturned = Outage(archive.sessions), []
    lose_database(outage, archive, unreturned)
    assert len(unreturned) == 2
    with hold(outage, archive, unreturned) as leases:
        assert [(unit.unit_id, unit.attempts) for unit in leases.take(5)] == [(1, 1), (2, 1)]
    assert units(archive) == [("pending", 0, None)] * 2
    assert unreturned == []


def test_what_another_process_took_meanwhile_stays_there(archive):
    for _ in range(2):
        archive.add()
    outage, unreturned = Outage(archive.sessions), []
    lose_database(outage, archive, unreturned)
    archive.expire_leases()
    with LeaseHolder(archive.sessions, archive.lease("two")) as other:
        (theirs,) = other.take(1)
        with hold(outage, archive, unreturned):
            assert sorted(units(archive)) == [("leased", 2, True), ("pending", 0, None)]
        other.drop(theirs)


def test_a_lease_whose_answer_was_lost_goes_back(archive):
    for _ in range(2):
        archive.add()
    outage, unreturned = Outage(archive.sessions), []
    take_in_vain(outage, archive, unreturned, lambda: setattr(outage, "loses_answer", True))
    assert units(archive) == [("leased", 1, True)] * 2
    with hold(outage, archive, unreturned) as leases:
        assert len(leases.take(2)) == 2


def test_a_lease_that_was_rolled_back_is_not_returned_from_another(archive):
    archive.add()
    outage, unreturned = Outage(archive.sessions), []

    @contextmanager
    def rolled_back():
        with archive.sessions() as session:
            yield session
            session.rollback()
        raise OperationalError("COMMIT", {}, OSError("the server closed the connection"))

    take_in_vain(outage, archive, unreturned, lambda: setattr(outage, "begin", rolled_back))
    with LeaseHolder(archive.sessions, archive.lease("two")) as other:
        (theirs,) = other.take(1)
        assert theirs.token == unreturned[0].token
        with hold(Outage(archive.sessions), archive, unreturned):
            assert units(archive) == [("leased", 1, True)], "the same token, and yet the lease of another process"
        other.drop(theirs)


def test_a_library_that_asks_to_exit_is_an_error_of_its_unit(archive, monkeypatch):
    archive.add()
    monkeypatch.setattr("worker.analysis.store.writer.end_unit", lambda *_: sys.exit(3))

    def writer_of(leases):
        return Writer(WriterContext(archive.sessions, leases, CropStore(""), archive.ids, {}, 3))

    def store():
        with LeaseHolder(archive.sessions, archive.lease()) as leases, writer_of(leases) as writer:
            writer.store(UnitResult(unit=leases.take(1)[0], frame_count=1))
            writer.wait()

    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        store()
    assert [unit[:2] for unit in units(archive)] == [("pending", 1)]


def test_the_end_waits_for_a_heartbeat_that_is_under_way(archive):
    archive.add()
    beating = threading.Event()

    class SlowHeartbeat(Outage):
        @contextmanager
        def begin(self):
            if threading.current_thread().name == "heartbeat":
                beating.set()
                time.sleep(0.5)
            with super().begin() as session:
                yield session

    with hold(SlowHeartbeat(archive.sessions), archive) as leases:
        assert len(leases.take(1)) == 1
        assert beating.wait(10)
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}
    assert units(archive) == [("pending", 0, None)]


def test_units_are_taken_beside_others_but_not_beside_a_suspect(archive):
    for _ in range(3):
        archive.add()
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET attempts = 1 WHERE unit_id = 3"))
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        (first,), (second,) = leases.take(1), leases.take(5)
        assert leases.take(5) == []
        leases.drop(first)
        leases.drop(second)
        assert [(unit.unit_id, unit.attempts) for unit in leases.take(5)] == [(3, 2)]
        archive.add()
        assert leases.take(5) == []


def test_finish_units_are_taken_unless_they_are_left_out(archive):
    archive.add()
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET stage = 'finish'"))
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        assert leases.take(5, finish=False) == []
        assert [unit.stage for unit in leases.take(5)] == ["finish"]
