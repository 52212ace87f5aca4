"""``facet analyze`` keeps to its own job: it leases no other units, measures its own work, and names the others."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.progress import Progress
from sqlalchemy import text

from worker.cli.output import forecast as forecasting
from worker.cli.output.forecast import IMAGE_CROP_BYTES, make_forecast, print_forecast
from worker.cli.output.job_progress import JobProgress
from worker.config import Settings
from worker.ingest.selection import FileSelection
from worker.ingest.survey import Survey
from worker.ledger import units as ledger
from worker.ledger.analyses import end_analysis
from worker.ledger.status.rates import Rates, read_rates
from worker.ledger.status.work import OpenJob, Work, read_other_jobs, read_work

IMAGES = 3


@pytest.fixture
def jobs(archive):
    """Two jobs that share an image: of three images, and of two."""
    first = archive.submit(archive.files(1, IMAGES), name="first").job_id
    second = archive.submit(archive.files(IMAGES, 2), name="second").job_id
    return SimpleNamespace(first=first, second=second)


def take(archive, job, **options):
    with archive.sessions.begin() as session:
        lease = replace(archive.lease(), job_id=job, **options)
        return ledger.lease_units(session, lease, 10)


@pytest.mark.parametrize("unreachable", [(), ("/nowhere",)])
def test_only_units_of_the_job_are_leased(archive, jobs, unreachable):
    taken = take(archive, jobs.second, unreachable=unreachable)
    assert len({unit.sha256 for unit in taken}) == 2
    assert len(take(archive, jobs.first, unreachable=unreachable)) == IMAGES - 1, "the shared one is leased"
    assert take(archive, None) == []


def test_suspects_of_other_jobs_are_left_alone(archive, jobs):
    others = {unit.unit_id for unit in take(archive, jobs.first) if unit.location != f"/image/{IMAGES}"}
    assert len(others) == IMAGES - 1
    archive.expire_leases()
    with archive.sessions.begin() as session:
        lease = replace(archive.lease(), job_id=jobs.second)
        (shared,) = ledger.lease_units(session, lease, 1, suspects=True)
        assert shared.unit_id not in others
        assert ledger.lease_units(session, lease, 1, suspects=True) == []


def test_the_work_of_a_job_is_counted_in_frames(archive, jobs):
    film = archive.submit(archive.files(9, 1, "video")).job_id
    with archive.sessions.begin() as session:
        assert read_work(session, jobs.first, 60.0) == Work(IMAGES, 0)
        assert read_work(session, film, 60.0).frames == pytest.approx(1200), "ten minutes, two a second"
    (unit, *_) = take(archive, jobs.first)
    with archive.sessions.begin() as session:
        ledger.finish_unit(session, unit, "done")
        end_analysis(session, unit.analysis_id)
        assert read_work(session, jobs.first, 60.0) == Work(IMAGES, 1)


def test_other_jobs_with_files_of_their_own_are_named(archive, jobs):
    with archive.sessions.begin() as session:
        assert read_other_jobs(session, jobs.second) == [OpenJob(jobs.first, "first", False, IMAGES - 1)]
        assert read_other_jobs(session, jobs.first) == [OpenJob(jobs.second, "second", False, 1)]
        session.execute(text("UPDATE job SET paused_at = now() WHERE job_id = :job"), {"job": jobs.first})
        assert read_other_jobs(session, jobs.second) == [OpenJob(jobs.first, "first", True, IMAGES - 1)]
    again = archive.submit(archive.files(1, IMAGES + 1), name="all").job_id
    with archive.sessions.begin() as session:
        assert read_other_jobs(session, again) == [], "it does the work of both"


def test_rates_are_those_of_the_time_in_which_there_was_work(archive):
    with archive.sessions.begin() as session:
        assert read_rates(session) is None, "nothing was analysed yet"
    for _ in range(2):
        archive.add()
    with archive.sessions.begin() as session:
        session.execute(
            text("""UPDATE unit SET state = 'done', frame_count = 100, face_count = 50,
                    started_at = now() - make_interval(days => unit_id::int),
                    finished_at = now() - make_interval(days => unit_id::int) + interval '10 seconds'""")
        )
        rates = read_rates(session)
    assert rates.frames_per_second == pytest.approx(200 / 20)
    assert rates.faces_per_frame == 0.5


def test_a_forecast_takes_frames_of_images_and_videos_at_these_rates():
    found = Survey(images=100, videos=["a.mp4"], archives=0, byte_size=10**9)
    forecast = make_forecast(found, 450.0, 0, 2.0, Rates(10.0, 0.5, 5_000.0))
    assert forecast.frames == 1_000
    assert forecast.seconds == 100
    assert forecast.room_bytes == 500 * (5_000 + IMAGE_CROP_BYTES)
    assert make_forecast(found, 450.0, 0, 2.0, None).seconds is None


def test_progress_never_exceeds_the_whole(archive, jobs):
    bar = Progress(disable=True)
    progress = JobProgress(archive.sessions, jobs.first, 60.0, bar)
    (task,) = bar.tasks
    assert (task.completed, task.total, task.fields["facts"]) == (0, IMAGES, "starting")
    shown = []
    for frames in (0, 1, 2, 253):
        progress.show(SimpleNamespace(frames=frames, frames_in_flight=1, faces=7 * frames))
        shown.append(task.completed)
    assert shown == [1, 2, IMAGES, IMAGES]
    assert task.fields["facts"] == f"{IMAGES} of {IMAGES} frames, 1,771 faces"


def test_progress_of_a_second_pipeline_does_not_fall_below_what_is_done(archive, jobs, monkeypatch):
    monkeypatch.setattr("worker.cli.output.job_progress.READ_SECONDS", 0.0)
    monkeypatch.setattr("worker.cli.output.job_progress.READ_SHARE", 0.0)
    bar = Progress(disable=True)
    progress = JobProgress(archive.sessions, jobs.first, 60.0, bar)
    progress.show(SimpleNamespace(frames=2, frames_in_flight=0, faces=0))
    progress._again_at = float("inf")  # its time alone is no reason to read the ledger again
    progress.show(SimpleNamespace(frames=0, frames_in_flight=1, faces=0))
    assert bar.tasks[0].completed == 1


def test_progress_takes_over_what_other_workers_did(archive, jobs, monkeypatch):
    monkeypatch.setattr("worker.cli.output.job_progress.READ_SECONDS", 0.0)
    monkeypatch.setattr("worker.cli.output.job_progress.READ_SHARE", 0.0)
    bar = Progress(disable=True)
    progress = JobProgress(archive.sessions, jobs.first, 60.0, bar)
    (unit, *_) = take(archive, jobs.first)
    with archive.sessions.begin() as session:
        ledger.finish_unit(session, unit, "done")
        end_analysis(session, unit.analysis_id)
    progress.show(SimpleNamespace(frames=1, frames_in_flight=0, faces=0))
    assert bar.tasks[0].completed == 1


def test_a_forecast_says_that_known_files_are_counted(clean_database, tmp_path, monkeypatch, capsys):
    (tmp_path / "media").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "media" / "a.png")
    config = Settings(database_url=clean_database, home=tmp_path / "home")
    print_forecast(config, [str(tmp_path / "media")], FileSelection(), None, as_json=False)
    assert "nothing was analysed here yet" in capsys.readouterr().out
    monkeypatch.setattr(forecasting, "read_rates", lambda _: Rates(10.0, 0.5, 5_000.0))
    print_forecast(config, [str(tmp_path / "media")], FileSelection(), None, as_json=False)
    out = capsys.readouterr().out
    assert "files that were analysed before are counted as new ones" in out
    assert "nothing was analysed here yet" not in out
