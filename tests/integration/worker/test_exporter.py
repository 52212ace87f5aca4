"""Figures of the ledger as Prometheus gets them, on a real PostgreSQL."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from db.engine import make_engine, session_factory
from worker import metrics
from worker.deployment import exporter
from worker.deployment.exporter import LedgerCollector
from worker.ledger import units as ledger


def figures(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def test_units_are_counted_by_what_somebody_could_do(archive):
    for _ in range(4):
        archive.add()
    with archive.sessions.begin() as session:
        one, two, _ = ledger.lease_units(session, archive.lease(), 3)
        ledger.fail_unit(session, one, "crashed: first", 3)
        ledger.finish_unit(session, two, "done")
    found = figures(LedgerCollector(archive.sessions))
    states = {name[26:-2]: value for name, value in found.items() if name.startswith("facet_ledger_units") and value}
    assert states == {"pending": 1, "suspect": 1, "done": 1, "leased": 1}
    assert (found["facet_ledger_workers"], found["facet_ledger_attempts"]) == (1, 3)
    archive.expire_leases()
    found = figures(LedgerCollector(archive.sessions))
    assert (found['facet_ledger_units{state="abandoned"}'], found["facet_ledger_workers"]) == (1, 0)
    assert found["facet_ledger_oldest_waiting_seconds"] > 0


def test_an_answer_is_kept_for_a_while(archive, monkeypatch):
    collector = LedgerCollector(archive.sessions)
    assert figures(collector)['facet_ledger_units{state="pending"}'] == 0
    archive.add()
    assert figures(collector)['facet_ledger_units{state="pending"}'] == 0
    monkeypatch.setattr(exporter.time, "monotonic", lambda: 1e12)
    assert figures(collector)['facet_ledger_units{state="pending"}'] == 1


def test_a_database_that_is_away_is_a_figure():
    engine = make_engine("postgresql://nobody@127.0.0.1:1/nothing")
    assert figures(LedgerCollector(session_factory(engine))) == {"facet_ledger_up": 0}
    engine.dispose()


def test_counting_is_nothing_until_it_begins(monkeypatch):
    monkeypatch.setattr(metrics, "_meters", [])
    metrics.count_unit("done")
    registry = CollectorRegistry()
    metrics.start_metrics(registry)
    metrics.start_metrics(registry)
    metrics.count_unit("failed", "crashed")
    metrics.count_work(3, 2, {"decode": 0.5})
    metrics.count_killed_child()
    metrics.note_gpu_memory(7)
    metrics.count_release_load("failed")
    metrics.note_releases(2)
    assert registry.get_sample_value("facet_units_total", {"outcome": "failed"}) == 1
    assert registry.get_sample_value("facet_failures_total", {"reason": "crashed"}) == 1
    assert registry.get_sample_value("facet_frames_total") == 3
    assert registry.get_sample_value("facet_decode_children_killed_total") == 1
    assert registry.get_sample_value("facet_gpu_memory_bytes") == 7
    assert registry.get_sample_value("facet_release_loads_total", {"outcome": "failed"}) == 1
    assert registry.get_sample_value("facet_releases_loaded") == 2
