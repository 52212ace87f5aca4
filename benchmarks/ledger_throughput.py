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
from lease_scale import LIMIT, make_job, tidy
from made_release import register_made
from sqlalchemy import text

from db.engine import make_engine, session_factory
from db.schema.migrate import upgrade
from db.server.embedded import EmbeddedPostgres
from models.manifest import read_manifest
from models.release import DEFAULT
from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.writer import Writer, WriterContext
from worker.ledger.leases import LeaseHolder, make_owner
from worker.ledger.units import Lease
from worker.storage.crops import CropStore
from worker.types import HeadRows

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    from sqlalchemy.orm import Session, sessionmaker

    from models.branches import BranchSpec
    from worker.ledger.releases import ReleaseIds

EMBEDDING = 128  # numbers
BRANCHES = read_manifest(DEFAULT).branches
GOAL_MS = 5.0  # of wall time per unit


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=20_000, help="Stills to lease and store.")
    parser.add_argument("--processes", type=int, default=8, help="Workers at once.")
    parser.add_argument("--faces", type=int, default=0, help="Faces of a still, with embeddings.")
    parser.add_argument("--heads", action="store_true", help="With predictions of the shipped release.")
    wanted = parser.parse_args()
    with TemporaryDirectory(prefix="facet-bench-") as folder, EmbeddedPostgres(Path(folder)) as server:
        upgrade(server.url)
        engine = make_engine(server.url)
        sessions = session_factory(engine)
        release = register_made(sessions, "measured")
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


def run(url: str, release: ReleaseIds, wanted: argparse.Namespace) -> tuple[float, list[float]]:
    """Run all processes; returns the seconds from their common start to the last end, and their leases' ms."""
    context = multiprocessing.get_context("fork")
    start, told = context.Barrier(wanted.processes + 1), context.Queue()
    workers = [context.Process(target=work, args=(url, release, wanted, start, told)) for _ in range(wanted.processes)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    leases = [spent for _ in workers for spent in told.get()]
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join()
    return seconds, leases


def work(
    url: str, release: ReleaseIds, wanted: argparse.Namespace, start: Barrier, told: multiprocessing.Queue[list[float]]
) -> None:
    """Lease and store until nothing is due."""
    sessions = session_factory(make_engine(url))
    spent: list[float] = []
    lease = Lease(owner=make_owner(), release_id=release.release_id, seconds=90, max_attempts=3)
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
                faces = (some_faces(wanted.faces, heads=wanted.heads),) if wanted.faces else ()
                writer.store(UnitResult(unit=unit, frame_count=1, faces=faces))
            writer.wait()  # a worker holds a bounded count of units, too
    told.put(spent)


def some_faces(count: int, *, heads: bool = False) -> StoredFaces:
    """Return faces as the model would."""
    random = np.random.default_rng()
    embeddings = random.normal(size=(count, EMBEDDING)).astype(np.float32)
    return StoredFaces(
        frame_index=np.zeros(count, np.int64),
        at_seconds=np.zeros(count),
        boxes=np.zeros((count, 4), np.float32),
        landmarks=np.zeros((count, 5, 2), np.float32),
        scores=np.ones(count, np.float32),
        quality=np.ones(count, np.float32),
        dropped=(None,) * count,
        embeddings=embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        heads={branch.task: some_answers(branch, count) for branch in BRANCHES} if heads else {},
    )


def some_answers(branch: BranchSpec, count: int) -> HeadRows:
    """Return made predictions of a head for some faces."""
    size = (count, len(branch.labels))
    random = np.random.default_rng()
    probabilities = random.random(size).astype(np.float32)
    value, low, high = random.random((3, count)).astype(np.float32) if branch.kind == "age" else (None, None, None)
    codes = random.integers(0, 65536, size).astype(np.uint16)
    is_multi_label = branch.kind == "multilabel"
    return HeadRows(branch.labels, probabilities, value, low, high, codes=codes, is_multi_label=is_multi_label)


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
