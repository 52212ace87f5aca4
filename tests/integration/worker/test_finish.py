"""The finish stage: stored faces become appearances, and a file that defeats it hurts no other."""

from __future__ import annotations

import threading
import time
import tracemalloc
from contextlib import contextmanager
from itertools import pairwise

import pytest
from sqlalchemy import text

from models.branches import BranchSpec
from worker.analysis.store import face_blocks, finish
from worker.analysis.store.finish import build_appearances
from worker.analysis.store.finisher import Finisher
from worker.analysis.store.writer import Writer, WriterContext
from worker.analysis.tracking.joining import join_unit
from worker.errors import LeaseLostError
from worker.ledger import units as ledger
from worker.ledger.analyses import end_analysis, read_unsettled, revive_analysis
from worker.ledger.leases import LeaseHolder
from worker.ledger.releases import HeadSpec
from worker.ledger.submission import cancel
from worker.storage.crops import CropStore

BRANCHES = (
    BranchSpec(task="age", kind="age", labels=tuple(map(str, range(5))), depths=("embedding",)),
    BranchSpec(task="gender", kind="softmax", labels=("female", "male"), depths=("embedding",), abstain=0.6),
    BranchSpec(task="emotion", kind="softmax", labels=("joy", "anger", "calm"), depths=("embedding",), temperature=1.3),
    BranchSpec(
        task="attributes", kind="multilabel", labels=("hat", "glasses", "beard", "scarf"), depths=("embedding",)
    ),
)
HEADS = {branch.task: HeadSpec(branch) for branch in BRANCHES}
SHOWN = """
    SELECT p.ordinal, p.start_seconds, p.end_seconds, p.face_count, f.frame_index, f.face_no, p.quality,
           cast(p.embedding AS real[]) AS embedding, l.task, o.label, o.confidence, o.value, o.low, o.high, o.shares,
           decode_probabilities(o.scores, 'multilabel', 1) AS attributes
    FROM appearance p JOIN face f ON f.face_id = p.best_face_id
    JOIN appearance_prediction o USING (appearance_id) JOIN layer l ON l.layer_id = o.reading_id
    WHERE p.analysis_id = :id ORDER BY p.ordinal, l.task"""
MEMBERS = """
    SELECT f.frame_index, f.face_no, p.ordinal FROM face f LEFT JOIN face_embedding e USING (face_id)
    LEFT JOIN appearance p USING (appearance_id)
    WHERE f.analysis_id = :id ORDER BY 1, 2"""


def leased(archive, units=1, kind="video"):
    archive.add(units=units, kind=kind)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE analysis SET sample_interval_seconds = 0.5"))
        return ledger.lease_units(session, archive.lease(), units, stages=["analyse"])


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        for name, value in left._mapping.items():
            wanted = right._mapping[name]
            if isinstance(value, (float, list, dict)):
                assert value == pytest.approx(wanted, abs=2e-4), name
            else:
                assert value == wanted, name


def test_a_unit_that_is_a_whole_analysis_gives_what_stored_faces_give(archive):
    (first,), (second,) = leased(archive), leased(archive)
    assert first.is_whole
    with archive.sessions.begin() as session:
        archive.store(session, archive.filled(BRANCHES, first, 33))
        build_appearances(session, first.analysis_id, archive.ids, HEADS)
        result = archive.filled(BRANCHES, second, 33)
        archive.store(session, result, join_unit(result, HEADS))
        shown = [session.execute(text(SHOWN), {"id": unit.analysis_id}).all() for unit in (first, second)]
        members = [session.execute(text(MEMBERS), {"id": unit.analysis_id}).all() for unit in (first, second)]
    assert len(shown[0]) >= 9 * len(HEADS)
    assert_same(*shown)
    assert_same(*members)
    assert {row.ordinal for row in members[0]} >= {0, 1, 2}


@pytest.mark.parametrize("block", [1, 3, 10, 50])
def test_blocks_cut_no_appearance(archive, monkeypatch, block):
    shown, members = [], []
    for faces in (face_blocks.BLOCK_FACES, block):
        monkeypatch.setattr(face_blocks, "BLOCK_FACES", faces)
        units = leased(archive, 2)
        assert not any(unit.is_whole for unit in units)
        with archive.sessions.begin() as session:
            for unit in units[::-1]:
                archive.store(session, archive.filled(BRANCHES, unit, 17, at=17 * unit.ordinal))
            build_appearances(session, units[0].analysis_id, archive.ids, HEADS)
            shown.append(session.execute(text(SHOWN), {"id": units[0].analysis_id}).all())
            members.append(session.execute(text(MEMBERS), {"id": units[0].analysis_id}).all())
    assert_same(*shown)
    assert_same(*members)


def test_memory_does_not_grow_with_the_video(archive, monkeypatch):
    monkeypatch.setattr(face_blocks, "BLOCK_FACES", 200)
    peaks = []
    for frames in (150, 600):
        (unit,) = leased(archive)
        with archive.sessions.begin() as session:
            archive.store(session, archive.filled(BRANCHES, unit, frames))
        with archive.sessions.begin() as session:
            session.execute(text("SELECT 1"))
            tracemalloc.start()
            build_appearances(session, unit.analysis_id, archive.ids, HEADS)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def test_a_block_reads_its_own_faces_only(archive):
    (unit,) = leased(archive)
    with archive.sessions.begin() as session:
        archive.store(session, archive.filled(BRANCHES, unit, 200))
        # In a table as small as this one PostgreSQL would rather read and sort all of it.
        session.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"))
        bounds = {"analysis_id": unit.analysis_id, "first": 7, "limit": 20, "dimension": 128}
        bounds["trunk_id"] = archive.ids.trunk_id
        plan = session.connection().connection.cursor().execute(f"EXPLAIN {face_blocks._FACES}", bounds).fetchall()
    told = "\n".join(line for (line,) in plan)
    assert "using uq_face_analysis_id_frame_index_face_no" in told
    assert "Sort" not in told


def test_every_face_of_an_image_is_written_once(archive):
    (unit,) = leased(archive, kind="image")
    result = archive.filled(BRANCHES, unit, 1)
    with archive.sessions.begin() as session:
        session.execute(text("TRUNCATE face_embedding"))  # rows that were deleted before leave their places behind
        archive.store(session, result, join_unit(result, HEADS))
        end_analysis(session, unit.analysis_id, is_joined=True)
    with archive.sessions.begin() as session:
        rows = session.execute(text("SELECT ctid::text, appearance_id FROM face_embedding ORDER BY face_id")).all()
        state = session.execute(text("SELECT state, is_current FROM analysis")).one()
    places = [tuple(map(int, row.ctid.strip("()").split(","))) for row in rows]
    assert all(later[1] == sooner[1] + 1 for sooner, later in pairwise(places))
    assert places[0] == (0, 1)
    assert all(row.appearance_id is not None for row in rows)
    assert tuple(state) == ("done", True)


def analysed(archive, units=2):
    """A video all of whose ranges are stored; returns its analysis."""
    ranges = leased(archive, units)
    with archive.sessions.begin() as session:
        for unit in ranges:
            archive.store(session, archive.filled(BRANCHES, unit, 12, at=12 * unit.ordinal))
            end_analysis(session, unit.analysis_id)
    return ranges[0].analysis_id


@contextmanager
def at_work(archive, owner="one"):
    """A worker without a model."""
    with LeaseHolder(archive.sessions, archive.lease(owner)) as leases:
        context = WriterContext(archive.sessions, leases, CropStore("memory://crops"), archive.ids, HEADS, 3)
        with Writer(context) as writer, Finisher(context) as finisher:
            yield leases, writer, finisher


def finish_what_is_due(archive):
    """Do the finish units that are due, pauses after failures left out."""
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE unit SET not_before = NULL"))
    with at_work(archive) as (leases, _, finisher):
        while units := leases.take(10):
            for unit in units:
                assert unit.stage == "finish"
                finisher.submit(unit)
            wait_for(lambda: not finisher.is_busy)


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def ask(archive, query, **parameters):
    with archive.sessions.begin() as session:
        return [tuple(row) for row in session.execute(text(query), parameters)]


STATES = "SELECT state, stage, attempts FROM unit ORDER BY unit_id"
ENDED = "SELECT state, is_current, reason FROM analysis ORDER BY analysis_id"


def test_the_last_range_makes_the_finish_stage_due(archive):
    analysed(archive)
    assert ask(archive, STATES)[2:] == [("pending", "finish", 0)]
    assert ask(archive, ENDED) == [("pending", False, None)]
    assert archive.job()["pending"] == 1
    finish_what_is_due(archive)
    assert ask(archive, STATES)[2:] == [("done", "finish", 1)]
    assert ask(archive, ENDED) == [("done", True, None)]
    assert ask(archive, "SELECT count(DISTINCT appearance_id) > 5 FROM faces") == [(True,)]
    ((frames, faces),) = ask(archive, "SELECT frame_count, face_count FROM analysis")
    assert (frames, faces) == (24, 72)


def test_a_video_without_faces_needs_no_finish_stage(archive):
    ranges = leased(archive, 2)
    with archive.sessions.begin() as session:
        for unit in ranges:
            ledger.finish_unit(session, unit, "done", None, ledger.Effort(frames=5))
            end_analysis(session, unit.analysis_id)
    assert ask(archive, ENDED) == [("done", True, None)]


ERRORS = [MemoryError(), ValueError("no such track"), KeyError(7), RecursionError("deep"), SystemExit(3),
          ValueError("a\0b \udce9" + "x" * 3_000_000)]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_file_whose_faces_cannot_be_joined_is_quarantined_alone(archive, monkeypatch, error):
    bad, good = analysed(archive), analysed(archive)
    build = finish.build_appearances

    def build_or_fail(session, analysis_id, *rest):
        if analysis_id == bad:
            raise error
        build(session, analysis_id, *rest)

    monkeypatch.setattr(finish, "build_appearances", build_or_fail)
    for _ in range(3):
        finish_what_is_due(archive)
    (failed, ended) = ask(archive, ENDED)
    assert failed[:2] == ("quarantined", True)
    assert failed[2].startswith(f"finish: the faces are stored without appearances: joining its faces failed: "
                                f"{type(error).__name__}")  # fmt: skip
    assert len(failed[2]) < 1200
    assert ended == ("done", True, None)
    assert good != bad
    shown = "SELECT count(*), count(appearance_id) FROM faces JOIN analysis USING (media_id) WHERE analysis_id = :id"
    assert ask(archive, shown, id=bad) == [(72, 0)]
    assert archive.job() == {"submitted": 2, "done": 1, "rejected": 0, "quarantined": 1, "pending": 0}


def test_workers_that_die_at_a_file_quarantine_it_before_anything_else(archive):
    bad = analysed(archive)
    for owner in ("one", "two", "three"):
        with archive.sessions.begin() as session:
            ((unit),) = ledger.lease_units(session, archive.lease(owner), 3, suspects=owner != "one")
        assert (unit.analysis_id, unit.stage) == (bad, "finish")
        archive.expire_leases()
    other = analysed(archive)
    with archive.sessions.begin() as session:
        assert ledger.quarantine_exhausted(session, archive.lease()) == [bad]
    assert ask(archive, STATES)[2] == ("quarantined", "finish", 3)
    with archive.sessions.begin() as session:
        assert read_unsettled(session, archive.release_id) == [bad]
        end_analysis(session, bad)
    finish_what_is_due(archive)
    assert ask(archive, ENDED) == [
        ("quarantined", True,
         "finish: the faces are stored without appearances: worker_died: 3 workers died or stalled while they held it"),
        ("done", True, None),
    ]  # fmt: skip
    assert other != bad


def test_an_unfinished_analysis_takes_no_others_place(archive, monkeypatch):
    first = analysed(archive)
    finish_what_is_due(archive)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE analysis SET sampling = '9/s'"))
    archive.items -= 1
    with archive.sessions.begin() as session:
        second = session.execute(
            text("""INSERT INTO analysis (media_id, finder_id, sampling)
                    SELECT media_id, finder_id, '2/s' FROM analysis RETURNING analysis_id""")
        ).scalar_one()
        session.execute(
            text("INSERT INTO unit (analysis_id, release_id, ordinal) SELECT :a, :r, n FROM generate_series(0, 1) n"),
            {"a": second, "r": archive.release_id},
        )
        for unit in ledger.lease_units(session, archive.lease(), 5):
            archive.store(session, archive.filled(BRANCHES, unit, 12, at=12 * unit.ordinal))
            end_analysis(session, second)
    with monkeypatch.context() as patch:
        patch.setattr(finish, "build_appearances", lambda *_: 1 / 0)
        for _ in range(3):
            finish_what_is_due(archive)
    assert [row[:2] for row in ask(archive, ENDED)] == [("done", True), ("quarantined", False)]
    assert first != second


def test_a_cancelled_file_is_not_finished_and_goes_on_when_it_is_wanted_again(archive, monkeypatch):
    monkeypatch.setattr(face_blocks, "BLOCK_FACES", 12)
    analysis_id = analysed(archive)
    begun, go_on = threading.Event(), threading.Event()
    assign = finish.assign_faces

    def assign_slowly(*rest):
        assign(*rest)
        begun.set()
        go_on.wait(20)

    monkeypatch.setattr(finish, "assign_faces", assign_slowly)
    with at_work(archive) as (leases, _, finisher):
        finisher.submit(*leases.take(1))
        begun.wait(20)
        done = cancel.cancel_job(archive.sessions, archive.job_id)
        go_on.set()
        wait_for(lambda: not finisher.is_busy)
        assert len(leases) == 0
    assert (done.files, done.units, done.taken_back) == (1, 1, 1)
    assert ask(archive, "SELECT count(*) FROM appearance") == [(0,)]
    assert [row[0] for row in ask(archive, ENDED)] == ["cancelled"]
    with archive.sessions.begin() as session:
        assert revive_analysis(session, analysis_id) == 1
    finish_what_is_due(archive)
    assert ask(archive, ENDED) == [("done", True, None)]


def test_whoever_lost_a_finish_unit_stores_nothing(archive):
    analysed(archive)
    with archive.sessions.begin() as session:
        (slow,) = ledger.lease_units(session, archive.lease("slow"), 1)
    archive.expire_leases()
    with archive.sessions.begin() as session:
        (quick,) = ledger.lease_units(session, archive.lease("quick"), 1, suspects=True)
        finish.finish_leased(session, quick, archive.ids, HEADS)
    before = ask(archive, "SELECT appearance_id FROM appearance ORDER BY 1")
    with archive.sessions() as session, pytest.raises(LeaseLostError):
        finish.finish_leased(session, slow, archive.ids, HEADS)
    assert ask(archive, "SELECT appearance_id FROM appearance ORDER BY 1") == before


def test_the_writer_goes_on_while_a_video_is_finished_and_a_stop_gives_it_back(archive, monkeypatch):
    analysed(archive)
    begun, go_on = threading.Event(), threading.Event()
    assign = finish.assign_faces

    def assign_slowly(*rest):
        begun.set()
        go_on.wait(20)
        assign(*rest)

    monkeypatch.setattr(finish, "assign_faces", assign_slowly)
    with at_work(archive) as (leases, writer, finisher):
        assert (writer.seconds, finisher.seconds) == (0.0, 0.0)
        finisher.submit(*leases.take(1))
        begun.wait(20)
        archive.add()
        (image,) = leases.take(3, finish=False)
        writer.store(archive.filled(BRANCHES, image, 1))
        writer.wait()
        assert ask(archive, "SELECT state FROM unit WHERE unit_id = :id", id=image.unit_id) == [("done",)]
        assert finisher.is_busy
        threading.Timer(0.2, go_on.set).start()
    assert not {"writer", "finisher"} & {thread.name for thread in threading.enumerate()}
    assert ask(archive, STATES)[2] == ("pending", "finish", 0)
    finish_what_is_due(archive)
    assert [row[0] for row in ask(archive, ENDED)] == ["done", "done"]


def test_nothing_is_taken_beside_a_unit_that_failed_before(archive):
    analysed(archive)
    with archive.sessions.begin() as session:
        ledger.lease_units(session, archive.lease("dead"), 1)
    archive.expire_leases()
    with at_work(archive) as (leases, _, finisher):
        (suspect,) = leases.take(4)
        archive.add()
        assert leases.take(4) == []
        finisher.submit(suspect)
        wait_for(lambda: not finisher.is_busy)
        assert len(leases.take(4)) == 1
