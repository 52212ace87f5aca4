"""Units per second of the ledger when several processes lease and store at once.

    .venv/bin/python benchmarks/ledger_throughput.py [--units 20000] [--processes 8] [--faces 0]

Each process leases and stores as a worker does, with the program's own lease holder and writer, but looks at no frame:
what is left is the cost of the ledger and of the rows. Ends with status 1 unless every unit was leased once and stored
once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from lease_scale import LIMIT, make_job, make_release, tidy
from sqlalchemy import text

from db.engine import make_engine, session_factory
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.writer import Writer, WriterContext
from worker.ledger.leases import LeaseHolder, make_owner
from worker.ledger.units import Lease
from worker.storage.crops import CropStore

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from sqlalchemy.orm import Session, sessionmaker

EMBEDDING = 128  # numbers
GOAL_MS = 5.0  # of wall time per unit


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=20_000, help="Stills to lease and store.")
    parser.add_argument("--processes", type=int, default=8, help="Workers at once.")
    parser.add_argument("--faces", type=int, default=0, help="Faces of a still, with embedding, without predictions.")
    wanted = parser.parse_args()
    with TemporaryDirectory(prefix="facet-bench-") as folder, EmbeddedPostgres(Path(folder)) as server:
        upgrade(server.url)
        engine = make_engine(server.url)
        sessions = session_factory(engine)
        release = make_release(sessions, "measured")
        make_job(sessions, release, wanted.units)
        tidy(sessions)
        engine.dispose()  # before the processes are forked: each makes connections of its own
        seconds, leases = run(server.url, release, wanted)
        wrong = check(sessions, wanted.units)
    rate, cost = wanted.units / seconds, 1000 * seconds / wanted.units
    print(
        f"{wanted.units:,} units of {wanted.faces} faces, {wanted.processes} processes: {seconds:.1f} s, {rate:,.0f} "
        f"units/s, {cost:.2f} ms per unit (goal: {GOAL_MS:g})\nlease of up to {LIMIT} units: median "
        f"{statistics.median(leases):.1f} ms, 95th percentile {statistics.quantiles(leases, n=20)[-1]:.1f} ms"
    )
    print("every unit was leased once and stored once" if not wrong else f"{wrong} units went wrong")
    sys.exit(bool(wrong))


def run(url: str, release: int, wanted: argparse.Namespace) -> tuple[float, list[float]]:
    """Run all processes; returns the seconds from their common start to the last end, and their leases' ms."""
    context = multiprocessing.get_context("fork")
    start, told = context.Barrier(wanted.processes + 1), context.Queue()
    workers = [
        context.Process(target=work, args=(url, release, wanted.faces, start, told)) for _ in range(wanted.processes)
    ]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    leases = [spent for _ in workers for spent in told.get()]
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join()
    return seconds, leases


def work(url: str, release: int, faces: int, start: Barrier, told: multiprocessing.Queue[list[float]]) -> None:
    """Lease and store until nothing is due."""
    sessions = session_factory(make_engine(url))
    spent: list[float] = []
    lease = Lease(owner=make_owner(), release_id=release, seconds=90, max_attempts=3)
    with sessions.begin() as session:
        session.execute(text("SELECT 1"))
    start.wait()
    with (
        LeaseHolder(sessions, lease) as leases,
        Writer(WriterContext(sessions, leases, CropStore(""), release, {}, 3)) as writer,
    ):
        while True:
            began = time.perf_counter()
            units = leases.take(LIMIT)
            spent.append(1000 * (time.perf_counter() - began))
            if not units:
                break
            for unit in units:
                writer.store(UnitResult(unit=unit, frame_count=1, faces=(some_faces(faces),) if faces else ()))
            writer.wait()  # a worker holds a bounded count of units, too
    told.put(spent)


def some_faces(count: int) -> StoredFaces:
    """Return faces as the model would."""
    embeddings = np.random.default_rng().normal(size=(count, EMBEDDING)).astype(np.float32)
    return StoredFaces(
        frame_index=np.zeros(count, np.int64),
        at_seconds=np.zeros(count),
        boxes=np.zeros((count, 4), np.float32),
        landmarks=np.zeros((count, 5, 2), np.float32),
        scores=np.ones(count, np.float32),
        quality=np.ones(count, np.float32),
        dropped=(None,) * count,
        embeddings=embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
    )


def check(sessions: sessionmaker[Session], units: int) -> int:
    """Count the units that were not leased once and stored once."""
    with sessions() as session:
        right = session.execute(
            text("SELECT count(*) FROM unit JOIN analysis a USING (analysis_id) "
                 "WHERE token = 1 AND unit.state = 'done' AND a.state = 'done'")
        ).scalar_one()  # fmt: skip
    return units - int(right)


if __name__ == "__main__":
    main()
