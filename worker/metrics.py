"""Counters of a worker process for Prometheus; they count only after `start_metrics`.

The names, and what they mean, are in docs/monitoring.md. `worker/deployment/exporter.py` serves them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry, Counter, Gauge


@dataclass(frozen=True, slots=True)
class Meters:
    """The counters of this process."""

    units: Counter
    failures: Counter
    frames: Counter
    faces: Counter
    stage_seconds: Counter
    killed: Counter
    conflicts: Counter
    gpu_bytes: Gauge
    release_loads: Counter
    releases_loaded: Gauge
    reprocessed: Counter


_meters: list[Meters] = []  # empty until `start_metrics`


def start_metrics(registry: CollectorRegistry) -> None:
    """Start counting; a second call has no effect."""
    if _meters:
        return
    from prometheus_client import Counter, Gauge  # noqa: PLC0415 - whether processes share files is settled before

    _meters.append(
        Meters(
            units=Counter("facet_units", "Attempts at units by how they ended.", ["outcome"], registry=registry),
            failures=Counter("facet_failures", "Units not analysed whole, by reason.", ["reason"], registry=registry),
            frames=Counter("facet_frames", "Frames looked at.", registry=registry),
            faces=Counter("facet_faces", "Faces found, kept and dropped.", registry=registry),
            stage_seconds=Counter("facet_stage_seconds", "Time spent in a stage.", ["stage"], registry=registry),
            killed=Counter("facet_decode_children_killed", "Decode children that died or hung.", registry=registry),
            conflicts=Counter(
                "facet_transaction_conflicts",
                "Transactions that a deadlock ended, and that were tried again.",
                ["transaction"],
                registry=registry,
            ),
            gpu_bytes=Gauge(
                "facet_gpu_memory_bytes",
                "GPU memory that the worker's processes hold.",
                registry=registry,
                multiprocess_mode="livesum",
            ),
            release_loads=Counter(
                "facet_release_loads", "Releases that were loaded, or could not be.", ["outcome"], registry=registry
            ),
            releases_loaded=Gauge(
                "facet_releases_loaded",
                "Releases that the worker's processes hold, the same one in two of them counted twice.",
                registry=registry,
                multiprocess_mode="livesum",
            ),
            reprocessed=Counter(
                "facet_reprocess_faces", "Faces of ended batches, by the way they took.", ["way"], registry=registry
            ),
        )
    )


def count_unit(outcome: str, reason: str | None = None) -> None:
    """Count an attempt: done, rejected, failed (it is tried again), quarantined, left or lost (the lease was lost)."""
    for meters in _meters:
        meters.units.labels(outcome).inc()
        if reason is not None:
            meters.failures.labels(reason).inc()


def count_work(frames: int, faces: int, stage_seconds: Mapping[str, float]) -> None:
    """Count the stored results of a unit."""
    for meters in _meters:
        meters.frames.inc(frames)
        meters.faces.inc(faces)
        for stage, seconds in stage_seconds.items():
            meters.stage_seconds.labels(stage).inc(seconds)


def count_seconds(stage: str, seconds: float) -> None:
    """Count time that belongs to no single unit."""
    for meters in _meters:
        meters.stage_seconds.labels(stage).inc(seconds)


def count_killed_child() -> None:
    """Count a decode child that died or was killed."""
    for meters in _meters:
        meters.killed.inc()


def count_conflict(transaction: str) -> None:
    """Count a transaction that the database ended because of another one."""
    for meters in _meters:
        meters.conflicts.labels(transaction).inc()


def count_release_load(outcome: str) -> None:
    """Count a release that was loaded (``done``), or could not be (``failed``)."""
    for meters in _meters:
        meters.release_loads.labels(outcome).inc()


def count_reprocessed(way: str, faces: int) -> None:
    """Count the faces of a batch that ended."""
    for meters in _meters:
        meters.reprocessed.labels(way).inc(faces)


def note_releases(loaded: int) -> None:
    """Record how many releases this process has loaded."""
    for meters in _meters:
        meters.releases_loaded.set(loaded)


def note_gpu_memory(held_bytes: int) -> None:
    """Record the GPU memory that this process holds."""
    for meters in _meters:
        meters.gpu_bytes.set(held_bytes)
