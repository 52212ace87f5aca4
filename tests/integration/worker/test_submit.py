"""Submission on a real PostgreSQL: what a job keeps of refusals, of files that are known, and of its own end."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import event, text

from db.status.jobs import read_failures, read_jobs
from worker.errors import DecoderCrashed, MediaRejected, MediaUnreachable, MediaVanished
from worker.ingest import RefusedFile
from worker.ledger import units as ledger
from worker.ledger.analyses import end_analysis
from worker.ledger.status.job_status import read_status
from worker.ledger.status.summary import summarise_job
from worker.ledger.submission import accept
from worker.ledger.submission.job import Submission
from worker.ledger.submission.submit import submit
from worker.types import MediaInfo


class Prober:
    """Reports every video to be ten minutes long, or fails."""

    def __init__(self, error=None):
        self.error = error

    def probe(self, location, kind):
        if self.error is not None:
            raise self.error
        return MediaInfo(kind=kind, format="made", width=640, height=360, duration_seconds=600.0)


TIMEOUT = DecoderCrashed("timeout", "no sign of life for 60 s")
CORRUPT = MediaRejected("corrupt", "no frame can be read")


def send(archive, items, error=None, stopped=lambda: False, **options):
    wanted = {"name": "made", "release": archive.ids, "frames_per_second": 2.0, "unit_seconds": 60.0}
    submission = Submission(**wanted | options)
    return submit(archive.sessions, items, submission, Prober(error), stopped=stopped)


def work(archive, outcome="done", note=None):
    """End all units that wait."""
    with archive.sessions.begin() as session:
        while units := ledger.lease_units(session, archive.lease(), 10):
            for unit in units:
                ledger.finish_unit(session, unit, outcome, note)
                end_analysis(session, unit.analysis_id)


def ask(archive, statement, **values):
    with archive.sessions.begin() as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


def sums(archive, job):
    """Done, rejected, quarantined, cancelled and pending files of a job, which are all that it has."""
    ((submitted, *parts),) = ask(
        archive,
        "SELECT submitted, done, rejected, quarantined, cancelled, pending FROM jobs WHERE job_id = :job",
        job=job,
    )
    assert submitted == sum(parts)
    return parts


def test_a_later_refusal_takes_nothing_from_an_earlier_job(archive):
    film = list(archive.files(1, 1, "video"))
    first = send(archive, film).job_id
    work(archive)
    second = send(archive, film, CORRUPT, frames_per_second=1.0).job_id
    assert sums(archive, first) == [1, 0, 0, 0, 0]
    assert sums(archive, second) == [0, 1, 0, 0, 0]
    assert ask(archive, "SELECT status, reason FROM media") == [("done", None)]
    with archive.sessions.begin() as session:
        (failure,) = read_failures(session, job_id=second)
        assert (failure.reason, read_failures(session, job_id=first)) == (CORRUPT.reason, [])
        assert [reason.code for reason in read_status(session, second)[0].reasons] == ["corrupt"]
        assert [(failed.state, failed.reason) for failed in summarise_job(session, second).failures] == [
            ("rejected", CORRUPT.reason)
        ]
        assert summarise_job(session, first).failures == []


def test_a_refused_copy_does_not_move_a_file_that_others_wait_for(archive):
    (film,) = archive.files(1, 1, "video")
    send(archive, [film])
    copy = replace(film, location=film.location.with_name("copy"))
    send(archive, [copy], MediaRejected("missing", "it went"), frames_per_second=1.0)
    assert ask(archive, "SELECT location, reason FROM media_file") == [(str(film.location), None)]
    send(archive, [copy], frames_per_second=1.0)
    assert ask(archive, "SELECT location FROM media_file") == [(str(copy.location),)]


def test_a_file_refused_once_and_accepted_later_leaves_the_first_job_ended(archive):
    film = list(archive.files(1, 1, "video"))
    first = send(archive, film, CORRUPT).job_id
    assert ask(archive, "SELECT status, reason FROM media") == [("rejected", CORRUPT.reason)]
    second = send(archive, film).job_id
    assert sums(archive, first) == [0, 1, 0, 0, 0]
    assert sums(archive, second) == [0, 0, 0, 0, 1]
    assert ask(archive, "SELECT status, reason FROM media") == [("pending", None)]
    work(archive)
    assert [sums(archive, job) for job in (first, second)] == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    with archive.sessions.begin() as session:
        assert read_failures(session, job_id=first)[0].reason == CORRUPT.reason
        assert None not in [job.finished_at for job in read_jobs(session) if job.job_id in (first, second)]


def test_what_a_program_of_before_wrote_counts_as_what_it_was(archive):
    done, refused = archive.files(1, 2, "video")
    first = send(archive, [done]).job_id
    work(archive)
    second = send(archive, [refused], CORRUPT).job_id
    with archive.sessions.begin() as session:  # it wrote refusals on files, and none on items
        session.execute(text("UPDATE media_file SET reason = 'timeout: of another probe' WHERE media_id = 1"))
        session.execute(text("UPDATE job_item SET reason = NULL"))
        session.execute(text("UPDATE media_file SET reason = NULL WHERE media_id = 2"))
    assert [sums(archive, job) for job in (first, second)] == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    assert ask(archive, "SELECT status FROM media ORDER BY media_id") == [("done",), ("pending",)]
    with archive.sessions.begin() as session:
        assert read_failures(session, job_id=second)[0].reason == "unknown: the reason was not kept"
    send(archive, [done], frames_per_second=1.0)
    assert ask(archive, "SELECT reason FROM media_file WHERE media_id = 1") == [(None,)]


@pytest.mark.parametrize(
    "error",
    [TIMEOUT, DecoderCrashed("crashed", "killed by signal 11"), MediaVanished("it went"),
     MediaUnreachable("/mnt/films", "/mnt/films is not there")],
    ids=lambda error: error.code,
)  # fmt: skip
def test_a_probe_that_failed_for_now_is_no_refusal(archive, error):
    job = send(archive, archive.files(1, 1, "video"), error).job_id
    assert sums(archive, job) == [0, 0, 0, 0, 1]
    assert ask(archive, "SELECT start_seconds, end_seconds, state FROM unit") == [(None, None, "pending")]
    work(archive, "quarantined", "timeout: again")
    assert sums(archive, job) == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("state", ["done", "rejected", "quarantined"])
def test_images_are_not_analysed_again_at_another_rate(archive, state):
    photos = list(archive.files(1, 3))
    send(archive, photos)
    work(archive, state, None if state == "done" else "corrupt: made")
    for fps in (1.0, 0.5, None, 2.0):
        again = send(archive, photos, frames_per_second=fps)
        assert (again.units, again.known) == (0, 3)
    assert ask(archive, "SELECT count(*) FROM analysis") == [(3,)]


def test_images_that_were_analysed_at_a_rate_are_known(archive):
    (photo,) = archive.files(1, 1)
    send(archive, [photo])
    work(archive)
    with archive.sessions.begin() as session:  # as a program of before wrote them: one analysis for each rate
        session.execute(text("UPDATE analysis SET sampling = '2/s'"))
        session.execute(
            text("""INSERT INTO analysis (media_id, finder_id, sampling, state, reason, finished_at)
                    VALUES (1, :finder, '1/s', 'cancelled', 'cancelled: made', now())"""),
            {"finder": archive.ids.finder_id},
        )
    assert send(archive, [photo], frames_per_second=1.0).known == 1
    assert ask(archive, "SELECT analysis_id FROM job_item ORDER BY job_id") == [(1,), (1,)]


def test_an_image_under_another_finder_is_analysed(archive):
    photos = list(archive.files(1, 2))
    send(archive, photos)
    assert send(archive, photos, release=archive.register("other", detector="retrained")).units == 2
    assert ask(archive, "SELECT count(*), count(DISTINCT finder_id) FROM analysis") == [(4, 2)]


@pytest.mark.parametrize("part", ["trunk", "gender"])
def test_a_file_is_searched_once_for_all_releases_with_a_finder(archive, part):
    film, photo = next(archive.files(1, 1, "video")), next(archive.files(1, 1))
    first = send(archive, [film, photo])
    other = archive.register("other", **{part: "retrained"})
    assert other.finder_id == archive.ids.finder_id
    again = send(archive, [film, photo], release=other)
    assert (again.units, again.known) == (0, 2)
    assert ask(archive, "SELECT DISTINCT release_id FROM unit") == [(archive.release_id,)]
    work(archive)
    assert sums(archive, again.job_id) == sums(archive, first.job_id)


def test_one_file_many_times_in_a_batch(archive):
    photo, film = next(archive.files(1, 1)), next(archive.files(1, 1, "video"))
    moved = replace(film, location=film.location.with_name("elsewhere"))
    refused = RefusedFile("/a/b.txt", "unsupported", "text is no media")
    counts = send(archive, [photo, film, photo, refused, moved, film, refused, photo])
    assert (counts.files, counts.known, counts.refused, counts.units) == (8, 4, 2, 11)
    assert sums(archive, counts.job_id) == [0, 2, 0, 0, 6]
    assert ask(archive, "SELECT count(*), count(DISTINCT media_id) FROM job_item") == [(8, 3)]


def test_numbers_and_turns_follow_the_order_of_the_files(archive):
    files = sorted(archive.files(1, 40), key=lambda file: file.sha256, reverse=True)
    send(archive, files)
    named = ask(archive, "SELECT sha256 FROM media_file JOIN analysis USING (media_id) JOIN unit USING (analysis_id) "
                         "ORDER BY turn, unit_id")  # fmt: skip
    assert [row[0] for row in named] == [file.sha256 for file in files]


def test_the_same_files_again_change_no_row(archive):
    films = list(archive.files(1, 5, "video"))
    send(archive, films)
    versions = """SELECT 'u', unit_id, ctid::text FROM unit UNION ALL SELECT 'm', media_id, ctid::text FROM media_file
                  UNION ALL SELECT 'a', analysis_id, ctid::text FROM analysis ORDER BY 1, 2"""
    before = ask(archive, versions)
    assert send(archive, films).known == 5
    assert ask(archive, versions) == before


def test_files_refused_before_are_found_by_an_index(archive):
    with archive.sessions.begin() as session:
        session.execute(
            text("""INSERT INTO media_file (uri, reason) SELECT '/sidecars/' || n || '.xml', 'unsupported: no media'
                    FROM generate_series(1, 20000) n""")
        )
        session.execute(text("ANALYZE media_file"))
        asked = {"uris": [f"/sidecars/{n}.xml" for n in range(50)], "reasons": ["unsupported: no media"] * 50}
        plan = session.scalars(text(f"EXPLAIN {accept._KNOWN_REFUSALS.text}"), asked).all()
    assert any("ix_media_file_refused_uri" in line for line in plan)
    assert not any("Seq Scan on media_file" in line for line in plan)
    again = [RefusedFile(f"/sidecars/{n}.xml", "unsupported", "no media") for n in range(1, 51)]
    assert send(archive, [*again, RefusedFile("/sidecars/1.xml", "truncated", "another reason")]).refused == 51
    assert ask(archive, "SELECT count(*) FROM media_file") == [(20001,)]


def test_submission_that_meets_a_deadlock_is_written_once(archive):
    """A stranger locks against the order; the batch is written again, and counts and turns as if nothing had been."""
    films = list(archive.files(1, 2, "video"))
    send(archive, films)
    moved = [replace(film, location=film.location.with_name(f"moved-{n}")) for n, film in enumerate(films)]
    holds, engine = threading.Event(), archive.sessions.kw["bind"]

    def stranger():
        with archive.sessions.begin() as session, archive.sessions() as other:
            session.execute(text("SET LOCAL deadlock_timeout = '60s'"))
            session.execute(text("SELECT FROM media_file WHERE media_id = 2 FOR NO KEY UPDATE"))
            holds.set()
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not other.execute(text(waits)).scalar_one():
                other.rollback()  # a transaction sees the activity as it first looked at it
            session.execute(text("SELECT FROM media_file WHERE media_id = 1 FOR NO KEY UPDATE"))

    def hasten(connection, *facts):
        connection.exec_driver_sql("SET LOCAL deadlock_timeout = '1s'")

    thread = threading.Thread(target=stranger)
    thread.start()
    holds.wait()
    event.listen(engine, "begin", hasten)
    try:
        counts = send(archive, [*moved, *archive.files(7, 1)])
    finally:
        event.remove(engine, "begin", hasten)
        thread.join()
    assert (counts.files, counts.known, counts.units) == (3, 2, 1)
    assert sums(archive, counts.job_id) == [0, 0, 0, 0, 3]
    assert ask(archive, "SELECT location FROM media_file ORDER BY media_id LIMIT 2") == [
        ("/video/moved-0",), ("/video/moved-1",),
    ]  # fmt: skip


def test_a_job_says_whether_all_of_its_files_were_written(archive):
    seen = []

    def files():
        yield from archive.files(0, 60)
        seen.extend(ask(archive, "SELECT submission, finished_at, submitted FROM jobs ORDER BY job_id DESC LIMIT 1"))

    job = send(archive, files()).job_id
    assert seen == [("open", None, 50)]
    assert ask(archive, "SELECT submission FROM jobs WHERE job_id = :job", job=job) == [("ended",)]


def test_a_submission_that_broke_off_is_no_complete_job(archive):
    def files():
        yield from archive.files(0, 60)
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        send(archive, files())
    work(archive)
    with archive.sessions.begin() as session:
        (status,) = read_status(session, 2)
    assert (status.counts.submission, status.counts.done) == ("broken", 50)
    assert any("broke off" in note for note in status.notes)
    assert sums(archive, 2) == [50, 0, 0, 0, 0]


def test_a_submission_that_is_stopped_or_silent_is_broken(archive):
    seen = []
    stopped = send(archive, archive.files(0, 10), stopped=lambda: seen.append(1) or len(seen) > 4).job_id
    assert ask(archive, "SELECT submission, submitted FROM jobs WHERE job_id = :job", job=stopped) == [("broken", 4)]
    killed = send(archive, archive.files(0, 1)).job_id
    for age, state in (("59 minutes", "open"), ("61 minutes", "broken")):
        with archive.sessions.begin() as session:
            session.execute(
                text(f"UPDATE job SET submission = 'open', written_at = now() - interval '{age}' WHERE job_id = :job"),
                {"job": killed},
            )
        assert ask(archive, "SELECT submission FROM jobs WHERE job_id = :job", job=killed) == [(state,)]


def test_waiting_for_a_job_waits_for_its_submission(archive, monkeypatch):
    from worker.cli.jobs import commands as jobs

    monkeypatch.setattr(jobs, "WATCH_SECONDS", 0.01)
    database = SimpleNamespace(sessions=archive.sessions)
    job = send(archive, archive.files(0, 2)).job_id
    work(archive)
    assert jobs.watch_job(database, job)
    for end, went_well in (("ended", True), ("broken", False)):
        with archive.sessions.begin() as session:
            session.execute(text("UPDATE job SET submission = 'open' WHERE job_id = :job"), {"job": job})
        watched = []
        thread = threading.Thread(target=lambda told=watched: told.append(jobs.watch_job(database, job)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        with archive.sessions.begin() as session:
            session.execute(text("UPDATE job SET submission = :end WHERE job_id = :job"), {"end": end, "job": job})
        thread.join(20)
        assert watched == [went_well]


def test_a_file_that_was_refused_for_permission_and_is_found_later_has_one_row(archive):
    (image,) = archive.files(1, 1)
    first = send(archive, [RefusedFile(image.uri, "no_permission", "this user may not read it")]).job_id
    second = send(archive, [image]).job_id
    assert ask(archive, "SELECT uri, status, reason FROM media") == [(image.uri, "pending", None)]
    work(archive)
    assert ask(archive, "SELECT uri, status, reason FROM media") == [(image.uri, "done", None)]
    assert sums(archive, first) == [0, 1, 0, 0, 0]
    assert sums(archive, second) == [1, 0, 0, 0, 0]
    with archive.sessions.begin() as session:
        (failure,) = read_failures(session, job_id=first)
    assert failure.reason == "no_permission: this user may not read it"


def test_a_file_whose_bytes_are_known_takes_over_the_row_of_its_refusal(archive):
    (image,) = archive.files(1, 1)
    send(archive, [image])
    copy = replace(image, uri="/copy", location="/copy")
    send(archive, [RefusedFile("/copy", "unreadable", "input/output error")])
    send(archive, [copy])
    assert ask(archive, "SELECT uri FROM media") == [(image.uri,)]
    assert ask(archive, "SELECT count(*) FROM job_item WHERE uri = '/copy' AND media_id = 1") == [(2,)]


def test_a_refusal_for_the_bytes_keeps_its_row(archive):
    (image,) = archive.files(1, 1)
    send(archive, [RefusedFile(image.uri, "not_media", "text")])
    send(archive, [image])
    assert ask(archive, "SELECT status FROM media ORDER BY 1") == [("pending",), ("rejected",)]
