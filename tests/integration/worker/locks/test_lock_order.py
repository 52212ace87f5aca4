"""Every transaction of the program locks rows in the order of ``worker.ledger.locks``, on a real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from sqlalchemy import text

from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.finish import finish_leased
from worker.analysis.store.writer import Writer, WriterContext
from worker.erasure.erase import Eraser
from worker.erasure.files import FileStores
from worker.errors import DecoderCrashed, MediaChanged, MediaUnreachable
from worker.identity import correct, proposals
from worker.identity.identifier import Identifier, show_release
from worker.identity.regroup import Alarm
from worker.ingest import RefusedFile
from worker.ledger import locks
from worker.ledger import units as ledger
from worker.ledger.analyses import end_analysis, read_unsettled
from worker.ledger.leases import LeaseHolder
from worker.ledger.submission import cancel, pausing
from worker.ledger.submission.shelving import shelve
from worker.storage.crops import CropStore
from worker.storage.transactions import run_transaction

LEDGER = {"media_file", "analysis", "unit"}


def face(unit):
    return StoredFaces(
        frame_index=np.array([unit.ordinal * 1000]),
        at_seconds=np.array([unit.ordinal * 60.0]),
        boxes=np.array([[0, 0, 50, 50]], np.float32),
        landmarks=np.zeros((1, 5, 2), np.float32),
        scores=np.ones(1, np.float32),
        quality=np.ones(1, np.float32),
        dropped=(None,),
        embeddings=np.eye(1, 128, dtype=np.float32),
    )


def work(archive, *, shuffle=lambda units: None, spoil=lambda unit: None, limit=20):
    """Lease units and store them, or book what ``spoil`` gives for them as their failure."""
    with (
        LeaseHolder(archive.sessions, archive.lease()) as leases,
        Writer(WriterContext(archive.sessions, leases, CropStore("memory://locks"), archive.ids, {}, 3)) as writer,
    ):
        while units := leases.take(limit):
            shuffle(units)
            for unit in units:
                error = spoil(unit)
                if unit.stage == "finish":
                    run_transaction(
                        archive.sessions, "finish", partial(finish_leased, unit=unit, release=archive.ids, heads={})
                    )
                    leases.drop(unit)
                elif error is None:
                    writer.store(UnitResult(unit=unit, frame_count=1, faces=(face(unit),)))
                else:
                    writer.fail(UnitResult(unit=unit, error=error))
            writer.wait()
            if limit < 20:
                return


def make_due(archive):
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET not_before = NULL"))


def test_storing_and_failing(archive, recorder):
    archive.submit(archive.files(1, 4, "video"), unit_seconds=100.0)
    archive.submit(archive.files(1, 10))
    with recorder:
        work(archive, shuffle=lambda units: units.reverse(), limit=8)
        for error in (MediaUnreachable("/mnt", "away"), DecoderCrashed("crashed", "made"), MediaChanged("made")):
            work(archive, spoil=lambda unit, error=error: error, limit=5)
    make_due(archive)
    with recorder:
        work(archive, shuffle=lambda units: units.reverse())
    assert recorder.faults == []
    assert set(recorder.taken) >= LEDGER


def test_a_second_sampling_that_takes_the_place_of_the_first(archive, recorder):
    film = list(archive.files(1, 3, "video"))
    for fps in (2.0, 1.0, None):
        archive.submit(film, frames_per_second=fps, unit_seconds=300.0)
        with recorder:
            work(archive, shuffle=lambda units: units.reverse())
    assert recorder.faults == []


def test_submission_that_joins_revives_and_hastens(archive, recorder):
    films, photos = list(archive.files(1, 4, "video")), list(archive.files(1, 4))
    moved = [replace(film, location=film.location.with_name(f"moved-{n}")) for n, film in enumerate(reversed(films))]
    refused = [RefusedFile(f"/x/{n}", "unsupported", "made") for n in range(3)]
    with recorder:
        first = archive.submit([*films, *photos, *refused]).job_id
        work(archive, limit=7)
        work(archive, spoil=lambda unit: MediaChanged("made"), limit=2)
        archive.submit([*moved, *photos, *refused], priority=3)
        archive.submit(reversed(films), frames_per_second=1.0)
        for job in (first, 2, 3, 4):
            cancel.cancel_job(archive.sessions, job)
        archive.submit([*reversed(films), *reversed(photos)], priority=5)
    assert recorder.faults == []
    assert set(recorder.taken) >= LEDGER


def test_pausing_and_resuming(archive, recorder):
    job = archive.submit(archive.files(1, 3, "video"), unit_seconds=100.0).job_id
    for turn in (pausing.pause_job, pausing.resume_job):
        with recorder:
            with archive.sessions.begin() as session:
                assert turn(session, job)
            shelve(archive.sessions, job)
    assert recorder.faults == []
    assert {"unit", "job"} <= set(recorder.taken)


def test_leases_that_end_without_a_word(archive, recorder):
    archive.submit(archive.files(1, 3, "video"), unit_seconds=300.0)
    lease = archive.lease(max_attempts=1)
    for _ in range(3):
        with recorder, archive.sessions.begin() as session:
            units = ledger.lease_units(session, lease, 2)
            ledger.heartbeat(session, units, 60)
        archive.expire_leases()
        with recorder:
            run_transaction(archive.sessions, "q", lambda session: ledger.quarantine_exhausted(session, lease))
            with archive.sessions() as session:
                forgotten = read_unsettled(session, archive.release_id)
            for analysis_id in forgotten:
                run_transaction(archive.sessions, "e", partial(end_analysis, analysis_id=analysis_id))
    assert recorder.faults == []


def test_people_and_releases(archive, recorder, crowd):
    files = [crowd.photo(0, 1, 2), crowd.photo(2, 1, 0), crowd.photo(0, 1), crowd.film(0, 1, 2)]
    crowd.session.commit()
    identifier = Identifier(archive.sessions, archive.ids.trunk_id)
    with recorder:
        identifier.finish()
    crowd.analyse(files[1], jitter=5.0)
    crowd.analyse(files[0], jitter=5.0)
    crowd.session.commit()
    with recorder:
        identifier.finish()
        ada, ben, cyd = sorted(set(crowd.who().values()))[:3]
        for change in (
            lambda session: correct.name_people(session, [correct.NewName(ada, "Ada")]),
            lambda session: correct.merge_people(session, [ada, ben]),
            correct.undo_correction,
            lambda session: correct.split_person(session, cyd, crowd.ids(cyd)[:1]),
            lambda session: correct.not_person(session, ada, crowd.ids(ada)[:1]),
        ):
            run_transaction(archive.sessions, "correct", change)
            crowd.session.commit()
        waiting = proposals.regroup_people(archive.sessions, archive.ids.trunk_id, Alarm(share=0.0, floor=0))
        if waiting.proposal_id is not None:
            run_transaction(archive.sessions, "r", lambda s: proposals.apply_proposal(s, waiting.proposal_id))
        proposals.regroup_people(archive.sessions, archive.ids.trunk_id, Alarm(share=1.0, floor=0))
        run_transaction(archive.sessions, "activate", lambda session: show_release(session, "test"))
    assert recorder.faults == []
    assert {"person", "appearance", "analysis"} <= set(recorder.taken)


def test_erasure(archive, recorder, crowd, tmp_path):
    files = [crowd.photo(0, 1), crowd.photo(1, 2), crowd.film(0, 1, 2)]
    crowd.session.commit()
    archive.submit(archive.files(1, 3, "video"), unit_seconds=100.0, keep_days=1)
    Identifier(archive.sessions, archive.ids.trunk_id).finish()
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE job SET submitted_at = now() - interval '2 days'"))
    eraser = Eraser(archive.sessions, FileStores(CropStore(str(tmp_path / "crops")), tmp_path / "staging"))
    with recorder:
        work(archive, limit=5)
        eraser.erase_media([str(files[0])])
        eraser.erase_person(crowd.who()[files[2], 1])
        assert list(eraser.erase_due())
    assert recorder.faults == []


WRONG = {
    "a file after its unit": (
        "SELECT FROM unit WHERE unit_id = 2 FOR NO KEY UPDATE",
        "UPDATE media_file SET width = 1 WHERE media_id = 1",
    ),
    "rows in no order": ("UPDATE unit SET turn = 1 WHERE unit_id IN (2, 1)",),
    "rows in another order": ("SELECT FROM unit WHERE unit_id < 3 ORDER BY turn FOR NO KEY UPDATE",),
    "a lower number later": (
        "UPDATE unit SET turn = 1 WHERE unit_id = 2",
        "UPDATE unit SET turn = 1 WHERE unit_id = 1",
    ),
    "the strongest mode": ("SELECT FROM analysis WHERE analysis_id = 1 FOR UPDATE",),
    "a unit after a job": (
        "UPDATE job SET name = 'x'",
        "UPDATE unit SET turn = 1 WHERE unit_id = 1",
    ),
    "an upsert of what others hold": (
        "UPDATE unit SET turn = 1 WHERE unit_id = 1",
        """INSERT INTO analysis (media_id, finder_id, sampling) VALUES (1, 1, '2/s')
           ON CONFLICT (media_id, finder_id, sampling) DO UPDATE SET sampling = excluded.sampling""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("statements", WRONG.values(), ids=WRONG)
def test_the_recorder_sees_what_is_wrong(archive, recorder, statements):
    archive.add(units=3, kind="video")
    with recorder, archive.sessions.begin() as session:
        for statement in statements:
            session.execute(text(statement))
    assert len(recorder.faults) >= 1


def test_the_recorder_bears_what_is_right(archive, recorder):
    archive.add(units=3, kind="video")
    with recorder, archive.sessions.begin() as session:
        locks.lock_files(session, [1])
        locks.lock_units(session, [3, 1])
        session.execute(text("SELECT FROM unit WHERE unit_id = 2 FOR UPDATE SKIP LOCKED"))
        session.execute(text("UPDATE unit SET turn = 1"))
        session.execute(text("UPDATE analysis SET reason = 'made'"))
        session.execute(text("UPDATE job SET name = 'made'"))
    assert recorder.faults == []
    assert set(recorder.taken) == {"media_file", "analysis", "unit", "job"}
