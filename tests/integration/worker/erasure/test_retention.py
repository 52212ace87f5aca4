"""Files whose time is over, files that come again, and sealed ones."""

from __future__ import annotations

import time
from dataclasses import replace

from celery import Celery
from sqlalchemy import text


def test_files_go_when_the_last_of_their_jobs_lets_go_of_them(house, eraser, archive):
    session = house.session
    first, second, kept = house.photo(0), house.photo(1), house.photo(2)
    long = session.execute(text("INSERT INTO job (name, keep_days) VALUES ('long', 30) RETURNING job_id")).scalar_one()
    session.execute(text("INSERT INTO job_item VALUES (:j, 1, 'u', :m)"), {"j": long, "m": second})
    forever = session.execute(text("INSERT INTO job (name) VALUES ('forever') RETURNING job_id")).scalar_one()
    session.execute(text("INSERT INTO job_item VALUES (:j, 1, 'u', :m)"), {"j": forever, "m": kept})
    session.execute(text("UPDATE job SET keep_days = 7 WHERE job_id = :j"), {"j": house.job_id})
    age = text("UPDATE job SET submitted_at = now() - make_interval(days => :days)")

    def due(days):
        session.execute(age, {"days": days})
        session.commit()
        return [file.media_id for receipt in eraser.erase_due() for file in receipt.media]

    assert due(6) == []
    trial = replace(eraser, dry_run=True)
    assert due(8) == [first]
    assert due(29) == []
    session.execute(age, {"days": 31})
    session.commit()
    assert [[file.media_id for file in receipt.media] for receipt in trial.erase_due()] == [[second]]
    assert due(31) == [second]
    assert due(1000) == []
    assert session.scalars(text("SELECT media_id FROM media_file")).all() == [kept]


def test_a_sealed_file_is_not_analysed_again_and_an_erased_one_is_new(archive, eraser, crowd):
    (file,) = archive.files(1, 1, "video")
    archive.submit([file])
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE media_file SET sealed_at = now()"))
        session.execute(text("UPDATE analysis SET state = 'done', finished_at = now(), is_current = true"))
        session.execute(text("UPDATE unit SET state = 'done', finished_at = now()"))
    assert archive.submit([file]).known == 1  # what is known of the others is there
    assert archive.submit([file], frames_per_second=5.0).units == 0
    with archive.sessions() as session:
        (media_id,) = session.scalars(text("SELECT media_id FROM media_file")).all()
        states = session.execute(text("SELECT state, reason LIKE 'erased: %' FROM analysis ORDER BY analysis_id")).all()
        assert [tuple(row) for row in states] == [("done", None), ("rejected", True)]
    eraser.erase_media([file.sha256])
    assert archive.submit([file], frames_per_second=5.0).units == 10
    with archive.sessions() as session:
        assert session.execute(text("SELECT media_id > :m FROM media_file"), {"m": media_id}).scalar_one()
        jobs = session.execute(
            text("SELECT submitted, done, rejected, pending, erased FROM jobs ORDER BY job_id")
        ).all()
    assert [tuple(row) for row in jobs[-4:]] == [(1, 1, 0, 0, 1), (1, 1, 0, 0, 1), (1, 0, 1, 0, 1), (1, 0, 0, 1, 0)]


def test_beat_erases_what_is_due(archive, tmp_path):
    from worker.config import Settings
    from worker.deployment.tasks import Upkeep
    from worker.storage.database import Database

    archive.submit(archive.files(1, 2), keep_days=1)
    archive.submit(archive.files(2, 1), keep_days=3)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE job SET submitted_at = now() - interval '2 days'"))
    engine = archive.sessions.kw["bind"]
    upkeep = Upkeep(Celery(), Settings(home=tmp_path))
    database = Database(str(engine.url), engine, archive.sessions)
    upkeep.erase_due(database)
    with archive.sessions() as session:
        assert len(session.scalars(text("SELECT uri FROM media_file")).all()) == 2, "no schedule says so"
    schedule_retention(archive)
    upkeep.erase_due(database)
    with archive.sessions() as session:
        assert session.scalars(text("SELECT uri FROM media_file")).all() == ["/image/2"]
        assert session.scalars(text("SELECT last_result FROM schedule")).all() == ["files erased: 1"]


def schedule_retention(archive):
    """Add a schedule that is due now and every thirty seconds."""
    with archive.sessions.begin() as session:
        session.execute(
            text("INSERT INTO schedule (kind, every_seconds, created_by) VALUES ('retention', 30, 'facet')")
        )


def test_a_long_look_in_vain_is_not_taken_again_at_once(archive, tmp_path, monkeypatch):
    from worker.config import Settings
    from worker.deployment.tasks import Upkeep
    from worker.erasure import due
    from worker.storage.database import Database

    looks, find, slow = [], due.find_due, 0.2

    def look(session, **options):
        looks.append(options)
        time.sleep(slow)
        return find(session, **options)

    engine = archive.sessions.kw["bind"]
    settings, database = Settings(home=tmp_path), Database(str(engine.url), engine, archive.sessions)
    monkeypatch.setattr(due, "find_due", look)
    schedule_retention(archive)
    upkeep = Upkeep(Celery(), settings)
    upkeep.erase_due(database)
    upkeep.erase_due(database)
    assert len(looks) == 1
    with archive.sessions.begin() as session:
        assert session.scalars(text("SELECT next_at > now() + interval '29 s' FROM schedule")).all() == [True]
        session.execute(text("UPDATE schedule SET next_at = now(), last_due_at = NULL"))
    archive.submit(archive.files(1, 2), keep_days=1)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE job SET submitted_at = now() - interval '2 days' WHERE keep_days = 1"))
    upkeep.erase_due(database)
    upkeep.erase_due(database)
    assert len(looks) == 4, "after files were erased, more may be due"
