"""Several workers store units of the same videos at once, each in an order of its own, and none waits for ever."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from functools import partial

import numpy as np
from sqlalchemy import text

from db.bulk.codes import encode_softmax
from models.branches import BranchSpec
from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.finisher import Finisher
from worker.analysis.store.writer import Writer, WriterContext
from worker.ledger import analyses, releases
from worker.ledger import units as ledger
from worker.ledger.leases import LeaseHolder
from worker.ledger.releases import HeadSpec
from worker.storage.crops import CropStore
from worker.types import HeadRows

WORKERS, VIDEOS, UNITS, FACES = 4, 3, 20, 40
GENDER = BranchSpec(task="gender", kind="softmax", labels=("female", "male"), depths=("embedding",), abstain=0.5)
HEADS = {"gender": HeadSpec(GENDER)}


def faces(ordinal):
    rng = np.random.default_rng(ordinal)
    embeddings = rng.normal(size=(FACES, 128)).astype(np.float32)
    shares = rng.random((FACES, 2)).astype(np.float32) + 0.01
    shares /= shares.sum(1, keepdims=True)
    return StoredFaces(
        frame_index=ordinal * 1000 + np.arange(FACES),
        at_seconds=ordinal * 60.0 + np.arange(FACES) * 0.5,
        boxes=np.tile(np.array([[0, 0, 50, 50]], np.float32), (FACES, 1)),
        landmarks=np.zeros((FACES, 5, 2), np.float32),
        scores=np.ones(FACES, np.float32),
        quality=np.full(FACES, 0.8, np.float32),
        dropped=(None,) * FACES,
        embeddings=embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        heads={"gender": HeadRows(GENDER.labels, shares, codes=encode_softmax(np.log(shares)))},
    )


def count_deadlocks(archive):
    statement = "SELECT pg_stat_force_next_flush(), deadlocks FROM pg_stat_database WHERE datname = current_database()"
    with archive.sessions.begin() as session:
        session.execute(text("SELECT pg_stat_clear_snapshot()"))
        return session.execute(text(statement)).one().deadlocks


def store_all(archive, name, start, errors):
    """Lease and store until nothing is left, as the pipeline does, each batch in an order of its own."""
    shuffle = random.Random(name).shuffle
    start.wait()
    try:
        with LeaseHolder(archive.sessions, archive.lease(name)) as leases:
            context = WriterContext(archive.sessions, leases, CropStore(""), archive.ids, HEADS, 3)
            with Writer(context) as writer, Finisher(context) as finisher:
                while finisher.is_busy or (units := leases.take(6)):
                    if finisher.is_busy:
                        units = leases.take(6, finish=False)
                    shuffle(units)
                    for unit in units:
                        if unit.stage == "finish":
                            finisher.submit(unit)
                            continue
                        found = (faces(unit.ordinal),)
                        writer.store(UnitResult(unit=unit, frame_count=FACES, faces=found))
                    writer.wait()
    except Exception as err:  # noqa: BLE001 - a thread's failure is asserted by the test
        errors.append(err)


def test_workers_that_share_films_never_deadlock(archive):
    for _ in range(VIDEOS):
        archive.add(units=UNITS, kind="video")
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET turn = ordinal"))  # of all videos in turn
    before, start, errors = count_deadlocks(archive), threading.Barrier(WORKERS), []
    workers = [threading.Thread(target=store_all, args=(archive, str(n), start, errors)) for n in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert errors == []
    assert count_deadlocks(archive) == before
    with archive.sessions.begin() as session:
        ended = session.execute(text("SELECT state, count(*), sum(attempts) FROM unit GROUP BY 1")).all()
        assert ended == [("done", VIDEOS * (UNITS + 1), VIDEOS * (UNITS + 1))]
        assert session.execute(text("SELECT count(*) FROM face")).scalar_one() == VIDEOS * UNITS * FACES
        assert session.scalars(text("SELECT is_current FROM analysis")).all() == [True] * VIDEOS


def together(*work):
    """Run functions in threads that start at once; returns their failures."""
    start, errors = threading.Barrier(len(work)), []

    def run(one):
        start.wait()
        try:
            one()
        except Exception as err:  # noqa: BLE001 - a thread's failure is asserted by the test
            errors.append(err)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_two_samplings_of_a_file_that_end_at_once_leave_one_current(archive):
    archive.submit(archive.files(1, 1, "video"), unit_seconds=600.0)
    archive.submit(archive.files(1, 1, "video"), unit_seconds=600.0, frames_per_second=1.0)
    with archive.sessions.begin() as session:
        units = ledger.lease_units(session, archive.lease(), 2)
    assert len({unit.analysis_id for unit in units}) == 2
    settled = threading.Barrier(2)

    def end(unit):
        with archive.sessions.begin() as session:
            ledger.finish_unit(session, unit, "done")
            analyses.end_analysis(session, unit.analysis_id)
            with suppress(threading.BrokenBarrierError):  # the other one waits in the database
                settled.wait(0.5)

    assert together(*(partial(end, unit) for unit in units)) == []
    with archive.sessions.begin() as session:
        rows = session.execute(text("SELECT state, is_current FROM analysis ORDER BY is_current")).all()
    assert rows == [("done", False), ("done", True)]


def test_releases_that_are_activated_and_registered_at_once(archive):
    parts = ({"detector": "new"}, {"trunk": "new"}, {"age": "new"}, {"trunk": "new", "age": "newer"})
    made = [archive.manifest(f"made-{number}", **part) for number, part in enumerate(parts)]
    with archive.sessions.begin() as session:
        for manifest in made[:2]:
            releases.register_release(session, manifest)
    slow = text("SELECT pg_sleep(0.02)")

    def activate(name):
        with archive.sessions.begin() as session:
            releases.activate_release(session, name)
            session.execute(slow)

    def register(manifest):
        with archive.sessions.begin() as session:
            releases.register_release(session, manifest)
            session.execute(slow)

    names = ("made-0", "made-1", "test") * 2
    calls = [partial(activate, name) for name in names] + [partial(register, manifest) for manifest in made[2:]]
    assert together(*calls) == []
    with archive.sessions.begin() as session:
        assert session.execute(text("SELECT count(*) FILTER (WHERE active), count(*) FROM release")).one() == (1, 5)
