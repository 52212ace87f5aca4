"""The order of units on a real PostgreSQL: jobs of equal priority progress side by side."""

from __future__ import annotations

from sqlalchemy import text

from worker.ledger import units as ledger
from worker.ledger.submission.fair_queue import FairQueue


def take(archive, limit=1):
    with archive.sessions.begin() as session:
        return ledger.lease_units(session, archive.lease(), limit)


def order(archive, count):
    """The jobs whose units are leased next, one after the other."""
    found = []
    for _ in range(count):
        (unit,) = take(archive)
        with archive.sessions.begin() as session:
            ids = session.scalars(
                text("SELECT job_id FROM job_item WHERE analysis_id = :id ORDER BY 1"), {"id": unit.analysis_id}
            ).all()
        found.append(ids[0] if len(ids) == 1 else tuple(ids))
    return found


def test_a_small_job_does_not_wait_for_a_large_one(archive):
    large = archive.submit(archive.files(0, 500)).job_id
    take(archive, 100)
    small = archive.submit(archive.files(1000, 3)).job_id
    assert order(archive, 8) == [large, small, large, small, large, small, large, large]


def test_three_jobs_take_turns(archive):
    jobs = [archive.submit(archive.files(1000 * job, 50)).job_id for job in range(3)]
    assert order(archive, 30) == jobs * 10


def test_within_a_job_the_order_is_that_of_submission(archive):
    archive.submit(archive.files(0, 60))
    assert [unit.unit_id for unit in take(archive, 60)] == list(range(1, 61))


def test_priority_overtakes_and_equal_ones_share(archive):
    low = archive.submit(archive.files(0, 5), priority=-1).job_id
    normal = archive.submit(archive.files(100, 2)).job_id
    high = [archive.submit(archive.files(200 + 100 * job, 2), priority=7).job_id for job in range(2)]
    assert order(archive, 7) == [*high, *high, normal, normal, low]


def test_a_film_and_photos_share_by_frames(archive):
    # a unit of the video is 60 s at 2 frames per second: as much work as 120 images
    film = archive.submit(archive.files(0, 1, "video")).job_id
    photos = archive.submit(archive.files(0, 300)).job_id
    found = order(archive, 300)
    assert found.count(film) == 3
    assert found.index(film) == 0
    assert [n for n, job in enumerate(found) if job == film] == [0, 121, 242]
    assert found.count(photos) == 297


def test_a_job_that_comes_slowly_saves_nothing_up(archive):
    def slowly(files):
        for number, file in enumerate(files):
            if number == 50:  # the first batch of 50 is written; the other job goes on alone for a long time
                assert len(take(archive, 900)) == 900
            yield file

    large = archive.submit(archive.files(0, 1000)).job_id
    slow = archive.submit(slowly(archive.files(5000, 100))).job_id
    assert order(archive, 10) == [large, slow] * 5


def test_an_idle_time_is_not_held_against_a_job(archive):
    def slowly(files):
        for number, file in enumerate(files):
            if number == 400:
                take(archive, 1000)
                archive.submit(archive.files(9000, 30))
            yield file

    slow = archive.submit(slowly(archive.files(0, 450))).job_id
    assert order(archive, 6) == [slow + 1, slow] * 3


def test_a_file_of_two_jobs_comes_with_the_first_that_would_have_it(archive):
    large = archive.submit(archive.files(0, 300)).job_id
    both = archive.submit(archive.files(298, 2)).job_id
    assert order(archive, 5) == [large, (large, both), large, (large, both), large]


def test_a_file_of_two_jobs_has_the_higher_priority(archive):
    large = archive.submit(archive.files(0, 30)).job_id
    urgent = archive.submit(archive.files(29, 1), priority=3).job_id
    archive.submit(archive.files(29, 1), priority=-3)
    assert order(archive, 2) == [(large, urgent, urgent + 1), large]


def test_a_suspect_does_not_hold_the_clock_back(archive):
    large = archive.submit(archive.files(0, 300)).job_id
    (suspect,) = take(archive)
    with archive.sessions.begin() as session:
        ledger.fail_unit(session, suspect, "crashed: first", 3)
    take(archive, 100)
    small = archive.submit(archive.files(1000, 20)).job_id
    assert order(archive, 4) == [large, small, large, small]


def test_units_of_another_release_are_not_even_looked_at(archive):
    other = archive.register("other", gender="retrained")
    archive.submit(archive.files(0, 400), release=other, priority=5)
    archive.submit(archive.files(1000, 3))
    with archive.sessions.begin() as session:
        assert session.scalars(text("SELECT DISTINCT release_id FROM unit ORDER BY 1")).all() == [
            archive.release_id,
            other.release_id,
        ]
        # In a table as small as this one PostgreSQL would rather read all of it.
        session.execute(text("SET LOCAL enable_seqscan = off"))
        values = {
            "release_id": archive.release_id,
            "job_id": None,
            "limit": 3,
            "held": [],
            "stages": ["analyse", "finish"],
            "owner": "one",
            "seconds": 60,
        }
        plan = session.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {ledger._LEASE_FRESH.text}"), values).scalar_one()
        session.rollback()
    (scan,) = [node for node in nodes(plan[0]["Plan"]) if node.get("Index Name") == "ix_unit_lease"]
    assert scan["Actual Rows"] == 3
    assert "release_id" in scan["Index Cond"]
    assert len(take(archive, 10)) == 3


def nodes(plan):
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def test_a_job_waits_as_long_as_the_last_of_the_units_that_it_moved(archive):
    analysis_id = archive.add(units=3, kind="video")
    archive.submit(archive.files(0, 400))
    queue = FairQueue(archive.release_id, 1, frames_per_second=2.0, unit_seconds=60.0)
    with archive.sessions.begin() as session:
        queue.expedite(session, analysis_id, "video")
    assert queue.next == 360
    for kept in (360, 360, 0):  # while one of the three waits, the job owes what they take
        take(archive)
        with archive.sessions.begin() as session:
            queue.catch_up(session)
        assert queue.next == kept
