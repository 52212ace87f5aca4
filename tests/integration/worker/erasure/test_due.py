"""Retention where something goes wrong: one file that cannot be erased holds up no other."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from worker.erasure.due import FIRST_ROWS, ROWS_OF_A_FILE
from worker.erasure.health import read_waiting
from worker.ledger import units as ledger

BAD = text("""
    CREATE FUNCTION facet.refuse_it() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.media_id IN (SELECT id FROM facet.refused) THEN RAISE EXCEPTION 'row % is damaged', OLD.media_id; END IF;
        RETURN OLD;
    END $$;
    CREATE TABLE facet.refused (id bigint);
    CREATE TRIGGER refuse_it BEFORE DELETE ON facet.media_file FOR EACH ROW EXECUTE FUNCTION facet.refuse_it()""")
MENDED = text("DROP FUNCTION facet.refuse_it() CASCADE; DROP TABLE facet.refused")


@pytest.fixture
def due(archive):
    """More files than go at once, all of them due; returns their numbers."""
    archive.submit(archive.files(1, FIRST_ROWS // ROWS_OF_A_FILE + 20), keep_days=1)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE job SET submitted_at = now() - interval '2 days'"))
        return list(session.scalars(text("SELECT media_id FROM media_file ORDER BY 1")))


@pytest.fixture
def refuse(archive):
    """Makes the database refuse to delete some files, as it would those with unforeseen rows."""

    def refuse(*media):
        with archive.sessions.begin() as session:
            session.execute(text("INSERT INTO facet.refused SELECT unnest(cast(:m AS bigint[]))"), {"m": list(media)})

    with archive.sessions.begin() as session:
        session.execute(BAD)
    yield refuse
    with archive.sessions.begin() as session:
        session.execute(MENDED)


def left(archive):
    with archive.sessions() as session:
        return list(session.scalars(text("SELECT media_id FROM media_file ORDER BY 1")))


def test_files_that_cannot_be_erased_hold_up_no_other(archive, house, eraser, due, refuse, caplog):
    refuse(due[0], due[1], due[7], due[-1])
    receipts = list(eraser.erase_due())
    assert left(archive) == [due[0], due[1], due[7], due[-1]]
    assert sorted(number for one in receipts for number in one.failed) == left(archive)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 4
    assert "is damaged" in errors[0].getMessage()
    with archive.sessions() as session:
        (said,) = read_waiting(session, house.stores.staging)
    assert f"file {due[-1]}" in said
    assert "row" in said
    assert "is damaged" in said
    assert "facet forget --due" in said


def test_a_transaction_has_as_many_files_as_its_rows_allow(eraser, due):
    first, *others = eraser.erase_due()
    assert len(first.media) == FIRST_ROWS // ROWS_OF_A_FILE
    assert [file.media_id for one in (first, *others) for file in one.media] == due


def test_a_file_that_failed_is_passed_over_and_tried_again_later(archive, eraser, due, refuse):
    refuse(due[3])
    list(eraser.erase_due(again=False))
    assert list(eraser.erase_due(again=False)) == [], "it does not block every run"
    assert [one.failed for one in eraser.erase_due()] == [(due[3],)], "a request by hand tries it again"
    with archive.sessions.begin() as session:
        tries, pause = session.execute(
            text("SELECT attempts, extract(epoch FROM not_before - failed_at) FROM erasure_failure")
        ).one()
        assert (tries, float(pause)) == (2, 120.0)
        session.execute(text("UPDATE erasure_failure SET not_before = now()"))
        session.execute(text("DELETE FROM facet.refused"))
    assert [file.media_id for one in eraser.erase_due(again=False) for file in one.media] == [due[3]]
    with archive.sessions() as session:
        assert session.execute(text("SELECT count(*) FROM erasure_failure")).scalar_one() == 0


def test_a_file_that_a_worker_holds_holds_up_no_other(archive, eraser, due):
    with archive.sessions.begin() as session:
        (unit,) = ledger.lease_units(session, archive.lease(), 1)
    with archive.sessions.begin() as session:
        session.execute(text("SELECT FROM unit WHERE unit_id = :id FOR UPDATE"), {"id": unit.unit_id})
        list(replace(eraser, lock_wait_seconds=0.2).erase_due())
        assert left(archive) == [unit.media_id]


def test_a_dry_run_notes_no_failure(archive, eraser, due, refuse):
    refuse(due[0])
    receipts = list(replace(eraser, dry_run=True).erase_due())
    assert left(archive) == due
    assert sorted(file.media_id for one in receipts for file in one.media) == due[1:]
    with archive.sessions() as session:
        assert session.execute(text("SELECT count(*) FROM erasure_failure")).scalar_one() == 0


def test_a_database_that_is_away_is_no_files_fault(archive, eraser, due, monkeypatch):
    def away(*_args):
        raise OperationalError("SELECT", {}, type("Gone", (Exception,), {"sqlstate": "57P01"})("terminating"))

    monkeypatch.setattr("worker.erasure.erase.note_files", away)
    with pytest.raises(OperationalError):
        list(eraser.erase_due())
    with archive.sessions() as session:
        assert session.execute(text("SELECT count(*) FROM erasure_failure")).scalar_one() == 0


def test_files_that_another_job_keeps_stay_whenever_it_came(archive, eraser, due, monkeypatch):
    from worker.erasure import due as module

    def find_and_submit(session, **options):
        found = module_find(session, **options)
        if found and not archive.items:
            archive.items = 1
            archive.submit(archive.files(5, 1))  # between the look and the erasure
        return found

    module_find = module.find_due
    monkeypatch.setattr(module, "find_due", find_and_submit)
    list(eraser.erase_due())
    assert left(archive) == [due[4]]


@pytest.mark.parametrize("error", [RuntimeError("odd"), KeyError("odd"), MemoryError(), AssertionError("odd")])
def test_any_error_of_a_file_stays_with_it(archive, eraser, due, monkeypatch, error):
    from worker.erasure import erase

    choose = erase.select_media

    def fail(session, media):
        if due[2] in media:
            raise error
        choose(session, media)

    monkeypatch.setattr(erase, "select_media", fail)
    list(eraser.erase_due())
    assert left(archive) == [due[2]]
    with archive.sessions() as session:
        said = session.execute(text("SELECT error FROM erasure_failure")).scalar_one()
    assert said.startswith(type(error).__name__)
