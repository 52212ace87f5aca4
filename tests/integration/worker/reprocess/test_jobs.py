"""Reprocess jobs under faults: overlaps, lost leases, failures, pauses, limits, and files that come in meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models import manifest as manifests
from tests.integration.worker.reprocess.conftest import ROWS, make_release, nudge, with_branch
from worker.errors import FacetError, LeaseLostError, UsageError
from worker.ledger.batches import lease_batch
from worker.ledger.releases import find_release, read_ids
from worker.ledger.submission.cancel import cancel_job
from worker.ledger.submission.pausing import pause_job, resume_job
from worker.ledger.units import Lease
from worker.releases.folders import ReleaseFolders
from worker.releases.retiring import retire
from worker.reprocess import plan as planning
from worker.reprocess.batches import faces
from worker.reprocess.batches.rows import store_batch
from worker.reprocess.plan import Started, plan
from worker.reprocess.preview import preview
from worker.reprocess.request import ReprocessRequest, as_regex, choose_faces, faces_of_person, faces_where, write_job
from worker.reprocess.target import read_target

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from models.manifest import Manifest
    from tests.integration.worker.reprocess.conftest import Lab, Weights
    from worker.ledger.releases import ReleaseIds

KEPT_FACES = "SELECT count(*) FROM face WHERE dropped_reason IS NULL"


def other_readings(manifest: Manifest, weights: Weights) -> Manifest:
    """Only readings of gender and emotion are new, and the age branch, so that no model of the trunk is loaded."""
    nudge(weights, manifests.branch_file("age"), 0.5)
    return with_branch(with_branch(manifest, "gender", temperature=2.0), "emotion", temperature=1.5)


@pytest.fixture
def new(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReleaseIds:
    """An analysed clip and photo, and a release that lacks two readings and a head; batches have five faces."""
    monkeypatch.setattr(planning, "FACES_PER_BATCH", dict.fromkeys(planning.FACES_PER_BATCH, 5))
    monkeypatch.setattr(planning, "FACES_OF_APPEARANCES", 5)
    lab.analyse(make_release(tmp_path, "base"), "clip.mp4", "both.jpg")
    return lab.ids(make_release(tmp_path, "new", other_readings))


def begin(lab: Lab, ids: ReleaseIds, **limits: Any) -> int:
    with lab.database.sessions.begin() as session:
        job_id = write_job(session, ReprocessRequest(release_id=ids.release_id, **limits), "again")
        plan(session, job_id)
    return job_id


def lacking(lab: Lab, ids: ReleaseIds, task: str) -> int:
    query = f"{KEPT_FACES} AND face_id NOT IN (SELECT face_id FROM prediction WHERE reading_id = :reading)"
    return int(lab.ask(query, reading=ids.readings[task])[0][0])


@pytest.mark.slow
def test_two_workers_and_two_jobs_write_each_row_once(lab: Lab, new: ReleaseIds) -> None:
    jobs = [begin(lab, new), begin(lab, new, tasks=("gender", "age"))]
    errors: list[BaseException] = []

    def drain() -> None:
        try:
            lab.reprocessor().drain(threading.Event(), jobs=jobs)
        except BaseException as err:
            errors.append(err)
            raise

    threads = [threading.Thread(target=drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job_id in jobs:
        lab.drain(job_id)
        job = lab.job(job_id)
        assert job["done"] == job["submitted"] > 0
        assert job["errors"] == []
    assert errors == []
    assert {task: lacking(lab, new, task) for task in new.readings} == dict.fromkeys(new.readings, 0)
    assert lab.ask("SELECT count(*) FROM unit WHERE job_id IS NOT NULL AND attempts > 1")[0][0] == 0


@pytest.mark.slow
def test_a_cancelled_batch_stores_nothing(lab: Lab, new: ReleaseIds) -> None:
    job_id = begin(lab, new, tasks=("gender",))
    lease = Lease(owner="one", release_id=0, seconds=60.0, max_attempts=3)
    with lab.database.sessions.begin() as session:
        batch = lease_batch(session, lease)
        target = read_target(session, new.release_id)
    assert batch is not None
    rows = faces.from_scores(lab.database.sessions, batch, target, faces.Stopwatch())
    assert len(rows.heads["gender"].face_ids) == 5
    cancel_job(lab.database.sessions, job_id)
    with pytest.raises(LeaseLostError):
        store_batch(lab.database.sessions, batch, target, rows)
    assert lacking(lab, new, "gender") == lab.ask(KEPT_FACES)[0][0]
    assert lab.job(job_id)["cancelled"] == lab.job(job_id)["submitted"]
    assert lab.reprocess(new, tasks=("gender",))["done"] > 0  # the next job goes on


@pytest.mark.slow
def test_nothing_is_written_where_nothing_is_lacking(lab: Lab, new: ReleaseIds) -> None:
    def start(**limits: Any) -> Started:
        with lab.database.sessions.begin() as session:
            return planning.start(session, ReprocessRequest(release_id=new.release_id, **limits), "again")

    first = start()
    assert first.job_id is not None
    lab.drain(first.job_id)
    tables = ("job", "unit", "job_item", "reprocess_gap", "reprocess_face")
    counts = [lab.ask(f"SELECT count(*) FROM {table}")[0][0] for table in tables]
    assert start() == Started(None, {})
    assert start(sample=3) == Started(None, {})
    assert [lab.ask(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == counts
    (face,) = lab.ask("SELECT face_id FROM face WHERE dropped_reason IS NULL ORDER BY 1 LIMIT 1")[0]
    lab.ask_nothing("DELETE FROM prediction WHERE face_id = :face", face=face)
    lab.ask_nothing("DELETE FROM crop_strip")
    lab.ask_nothing("UPDATE media_file SET sealed_at = now()")
    gap = start(tasks=("emotion",))
    assert gap.job_id is None
    assert [(reason[:7], count) for reason, count in gap.gaps.items()] == [("sealed:", 1)]
    assert [lab.ask(f"SELECT count(*) FROM {table}")[0][0] for table in tables[:1]] == counts[:1]
    again = start(tasks=("age",))
    assert again.job_id is not None, "from the embedding"


@pytest.mark.slow
def test_scores_of_a_retired_release_are_read_and_taken_over(lab: Lab, new: ReleaseIds) -> None:
    """Faces that only the retired release had analysed: the release that stays reads what is left, and owns it then."""
    with lab.database.sessions.begin() as session:
        base = read_ids(session, find_release(session, "base").release_id)
    old, theirs = base.readings["gender"], new.readings["gender"]
    expected = lab.ask(ROWS, readings=[old])
    assert len(expected) > 5
    lab.ask_nothing("UPDATE prediction SET reading_id = :new WHERE reading_id = :old", new=theirs, old=old)
    lab.ask_nothing("DELETE FROM crop_strip")
    retire(ReleaseFolders(lab.settings, lab.database.sessions), "new")
    assert lab.ask("SELECT count(scores) FROM prediction WHERE reading_id = :r", r=theirs) == [(len(expected),)]
    job_id = begin(lab, base, tasks=("gender",))
    lab.drain(job_id)
    assert "reading" in lab.job(job_id)["ways"]
    assert lab.ask(ROWS, readings=[old]) == expected
    assert lab.ask("SELECT count(scores) FROM prediction WHERE reading_id = :r", r=old) == [(len(expected),)]
    assert lab.ask("SELECT count(*) FROM prediction WHERE reading_id = :r", r=theirs) == [(0,)]


@pytest.mark.slow
def test_faces_of_a_file_that_is_erased_meanwhile_are_left_out(lab: Lab, new: ReleaseIds) -> None:
    begin(lab, new, tasks=("gender",))
    lease = Lease(owner="one", release_id=0, seconds=60.0, max_attempts=3)
    with lab.database.sessions.begin() as session:
        batch = lease_batch(session, lease)
        target = read_target(session, new.release_id)
    assert batch is not None
    rows = faces.from_scores(lab.database.sessions, batch, target, faces.Stopwatch())
    gone = int(rows.heads["gender"].face_ids[0])
    lab.ask_nothing("DELETE FROM face WHERE face_id = :gone", gone=gone)
    assert store_batch(lab.database.sessions, batch, target, rows) == 4
    with lab.database.sessions() as blocker:
        assert blocker.connection().exec_driver_sql("SELECT 1 FROM facet.analysis ORDER BY 1 FOR UPDATE").rowcount == 2
        with lab.database.sessions.begin() as session:
            second = lease_batch(session, lease)
        assert second is not None
        rows = faces.from_scores(lab.database.sessions, second, target, faces.Stopwatch())
        assert store_batch(lab.database.sessions, second, target, rows) == 0  # it does not wait for the erasure
        blocker.rollback()


@pytest.mark.slow
def test_a_batch_that_always_fails_is_quarantined_and_the_others_are_done(
    lab: Lab, new: ReleaseIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lab.ask("SELECT min(face_id) FROM face WHERE dropped_reason IS NULL")[0][0]
    original = faces.from_scores
    attempts: Counter[int] = Counter()

    def fail(sessions: Any, batch: Any, target: Any, watch: Any) -> Any:
        attempts[batch.unit_id] += 1
        if batch.first_id <= first <= batch.last_id:
            raise ValueError("made to fail")
        return original(sessions, batch, target, watch)

    monkeypatch.setattr(faces, "from_scores", fail)
    monkeypatch.setattr("worker.ledger.units.BACKOFF_SECONDS", 0.01)
    job = lab.reprocess(new, tasks=("gender",))
    assert (job["quarantined"], job["pending"]) == (5, 0)
    assert job["done"] > 5
    assert job["finished_at"] is not None
    assert job["errors"] == ["reprocess: ValueError: made to fail"]
    assert sorted(attempts.values())[-2:] == [1, 3]
    assert lacking(lab, new, "gender") == 5
    monkeypatch.undo()
    assert lab.reprocess(new, tasks=("gender",))["done"] >= 5  # the next job tries it again
    assert lacking(lab, new, "gender") == 0


@pytest.mark.slow
def test_batches_that_fill_in_nothing_do_not_go_on_for_ever(
    lab: Lab, new: ReleaseIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.reprocess.batches.rows.without", lambda *arguments: arguments[2][:0])
    job = lab.reprocess(new, tasks=("gender",))
    assert (job["submission"], job["pending"]) == ("broken", 0)
    assert job["finished_at"] is not None


@pytest.mark.slow
def test_a_job_catches_up_with_files_that_come_in_meanwhile(lab: Lab, new: ReleaseIds, tmp_path: Path) -> None:
    job_id = begin(lab, new)
    before = lab.ask(KEPT_FACES)[0][0]
    lab.analyse(tmp_path / "base", "collins.jpg")
    assert lab.ask(KEPT_FACES)[0][0] > before
    lab.drain(job_id)
    assert {task: lacking(lab, new, task) for task in new.readings} == dict.fromkeys(new.readings, 0)


@pytest.mark.slow
def test_a_paused_job_waits_and_a_slow_one_rests(lab: Lab, new: ReleaseIds) -> None:
    job_id = begin(lab, new, speed="low")
    with lab.database.sessions.begin() as session:
        pause_job(session, job_id)
    lab.reprocessor().drain(threading.Event(), jobs=[job_id])
    assert lab.job(job_id)["done"] == 0
    with lab.database.sessions.begin() as session:
        assert plan(session, job_id) is None
        resume_job(session, job_id)
    busy = [0.0]
    reprocessor = lab.reprocessor()
    compute = reprocessor.compute

    def slow(*arguments: Any) -> Any:
        began = time.monotonic()
        try:
            return compute(*arguments)
        finally:
            time.sleep(0.05)
            busy[0] += time.monotonic() - began

    reprocessor.compute = slow  # type: ignore[method-assign]
    began = time.monotonic()
    reprocessor.drain(threading.Event(), jobs=[job_id])
    assert lab.job(job_id)["finished_at"] is not None
    assert busy[0] < 0.35 * (time.monotonic() - began)


@pytest.mark.slow
def test_other_work_comes_first(lab: Lab, new: ReleaseIds) -> None:
    job_id = begin(lab, new)
    asked = [0]

    def yields() -> bool:
        asked[0] += 1
        return asked[0] > 2

    lab.reprocessor().drain(threading.Event(), jobs=[job_id], yields=yields)
    assert lab.ask("SELECT count(*) FROM unit WHERE job_id = :id AND state = 'done'", id=job_id)[0][0] == 2
    assert lab.job(job_id)["pending"] > 0


@pytest.mark.slow
def test_jobs_are_limited_to_some_faces(lab: Lab, new: ReleaseIds) -> None:
    clip = """SELECT count(*) FROM face JOIN analysis USING (analysis_id) JOIN media_file USING (media_id)
              WHERE dropped_reason IS NULL AND uri LIKE '%.mp4'"""
    all_faces, of_clip = lab.ask(KEPT_FACES)[0][0], lab.ask(clip)[0][0]
    assert 0 < of_clip < all_faces
    lab.reprocess(new, media="*.mp4", tasks=("gender",))
    assert lacking(lab, new, "gender") == all_faces - of_clip
    lab.reprocess(new, of_job=1, tasks=("gender",))
    assert lacking(lab, new, "gender") == 0

    person, appearances = lab.ask("SELECT person_id, count(*) FROM appearance GROUP BY 1 ORDER BY 1")[0]
    with lab.database.sessions.begin() as session:
        chosen = faces_of_person(session, person)
    assert appearances > 0
    job = lab.reprocess(new, faces=chosen, tasks=("age",))
    assert lacking(lab, new, "age") == all_faces - job["ways"]["embedding"]
    assert lab.ask("SELECT count(*) FROM reprocess_face")[0][0] == 0

    wanted = faces_where(lab.settings.database_url or "", "quality >= (SELECT max(quality) FROM faces)")
    assert len(wanted) == 1
    assert lab.reprocess(new, faces=wanted, tasks=("emotion",))["ways"] == {"reading": 1}
    with pytest.raises(UsageError, match="has no head hat"):
        begin(lab, new, tasks=("hat",))


@pytest.mark.slow
def test_a_sample_stands_for_all_groups_and_leaves_appearances(lab: Lab, new: ReleaseIds) -> None:
    genders = lab.ask("SELECT DISTINCT gender FROM faces WHERE dropped_reason IS NULL")
    with lab.database.sessions.begin() as session:
        request = ReprocessRequest(release_id=new.release_id, sample=6)
        chosen = choose_faces(session, request)
        assert chosen == choose_faces(session, request)
    assert chosen is not None
    assert len(set(chosen)) == 6
    shown = lab.ask("SELECT DISTINCT gender FROM faces WHERE face_id = ANY (:ids)", ids=list(chosen))
    assert sorted(shown) == sorted(genders)
    job = lab.reprocess(new, sample=6)
    assert job["ways"] == {"reading": 6, "embedding": 6}
    assert job["finished_at"] is not None
    readings = {"gender": new.readings["gender"]}
    assert len(lab.rows(new, ROWS, readings)) == 6
    made = lab.ask("SELECT count(*) FROM appearance_prediction WHERE reading_id = :id", id=new.readings["gender"])
    assert made[0][0] == 0


@pytest.mark.slow
def test_the_preview_tells_what_the_job_does(lab: Lab, new: ReleaseIds) -> None:
    with lab.database.sessions() as session:
        found = preview(session, ReprocessRequest(release_id=new.release_id))
        session.rollback()
    count = lab.ask(KEPT_FACES)[0][0]
    assert [(one.way, one.faces, one.hours) for one in found.ways] == [
        ("reading", count, None), ("embedding", count, None),
    ]  # fmt: skip
    assert found.ways[0].read_bytes == count * 2 * (2 + 8)
    assert found.ways[1].read_bytes == count * 256
    assert found.people == lab.ask("SELECT count(DISTINCT person_id) FROM appearance")[0][0]
    assert lab.ask("SELECT count(*) FROM job WHERE kind = 'reprocess'")[0][0] == 0
    job = lab.reprocess(new)
    assert {one.way: one.faces for one in found.ways} == {way: job["ways"][way] for way in ("reading", "embedding")}
    lab.ask_nothing("DELETE FROM prediction WHERE reading_id = :id", id=new.readings["age"])
    with lab.database.sessions() as session:
        again = preview(session, ReprocessRequest(release_id=new.release_id))
        session.rollback()
    assert [one.way for one in again.ways] == ["embedding"]
    assert again.ways[0].hours is not None
    assert 0 < again.ways[0].hours < 1


@pytest.mark.slow
def test_a_release_that_this_host_lacks_costs_no_attempt(lab: Lab, new: ReleaseIds) -> None:
    job_id = begin(lab, new, tasks=("age",))

    def refuse(_release_id: int) -> Any:
        raise FacetError("made: the store does not hold it")

    lab.folders.open = refuse  # type: ignore[method-assign]
    with pytest.raises(FacetError, match="does not hold"):
        lab.reprocessor().drain(threading.Event(), jobs=[job_id])
    other = begin(lab, new, tasks=("gender",))  # it needs no model
    worker = lab.reprocessor()
    assert worker.has_work()
    worker.drain(threading.Event())  # a worker leaves the release to others, for now
    assert not worker.has_work()
    assert lab.job(other)["done"] == 0
    assert lab.job(job_id)["pending"] == lab.job(job_id)["submitted"]
    assert lab.ask("SELECT max(attempts), count(*) FILTER (WHERE state = 'leased') FROM unit WHERE job_id = :id",
                   id=job_id)[0] == (0, 0)  # fmt: skip


def test_globs_are_whole_addresses() -> None:
    assert as_regex("/a.b/*?.jpg") == r"^/a\.b/.*.\.jpg$"
    assert np.all([one in as_regex("[x]{1}$") for one in (r"\[x\]", r"\{1\}", r"\$")])
