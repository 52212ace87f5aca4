"""Notes of a file: from the decoder and from detection to the view ``media`` and the summary of a job."""

from __future__ import annotations

import threading

import pytest
from PIL import Image
from sqlalchemy import text

from worker.analysis.flight import MAX_UNIT_NOTES, UnitInFlight
from worker.analysis.results import UnitResult
from worker.analysis.runner import Worker
from worker.cli.analyze import print_summary, submit_paths
from worker.config import Settings
from worker.ledger.leases import LeaseHolder
from worker.ledger.status.summary import FileNote, summarise_job
from worker.ledger.submission.job import Submission
from worker.releases.folders import load_own
from worker.storage.database import open_database

# A decode child as it is, but that each image has a second part.
PROGRAM = """
from worker.decode.child import __main__ as child; from worker.decode.child.readers.image import image_reader

image_reader.ImageReader.notes = property(lambda still: ("page 2 of 2 was not analysed",))
child.main()
"""


def media(sessions):
    with sessions.begin() as session:
        return session.execute(text("SELECT uri, notes FROM media ORDER BY media_id")).all()


def test_a_note_of_the_decoder_reaches_the_view_and_the_summary(clean_database, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("worker.decode.process.PROGRAM", ("-c", PROGRAM))
    path = tmp_path / "a [2].png"
    Image.new("RGB", (32, 33)).save(path)
    config = Settings(home=tmp_path / "home", database_url=clean_database, decoders=1)
    with open_database(config) as database:
        worker = Worker(config, database, load_own(config))
        submission = Submission(name="a", release=worker.ids, frames_per_second=2.0, unit_seconds=60.0)
        submit_paths(config, database, [str(path)], submission)
        worker.drain(threading.Event())
        assert media(database.sessions) == [(str(path), ["page 2 of 2 was not analysed"])]
        with database.sessions.begin() as session:
            summary = summarise_job(session, 1)
    assert summary.notes == [FileNote(str(path), "page 2 of 2 was not analysed")]
    assert summary.as_json()["notes"] == [(str(path), "page 2 of 2 was not analysed")]
    print_summary(summary)
    assert "page 2 of 2 was not analysed" in capsys.readouterr().out


@pytest.mark.parametrize("reverse", [False, True])
def test_notes_of_all_units_are_listed_once_in_the_order_of_the_file(archive, reverse):
    archive.add(units=3, kind="video")
    archive.add()
    notes = {0: ["b"], 1: [], 2: ["a", "b", "c"]}
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        units = sorted(leases.take(9, videos=9), key=lambda unit: unit.unit_id, reverse=reverse)
        with archive.sessions.begin() as session:
            for unit in units:
                given = notes[unit.ordinal] if unit.kind == "video" else []
                archive.store(session, UnitResult(unit=unit, frame_count=1, notes=tuple(given)))
    assert [row.notes for row in media(archive.sessions)] == [["b", "a", "c"], None]
    with archive.sessions.begin() as session:
        assert summarise_job(session, archive.job_id).notes == [FileNote("/media/1", note) for note in ("b", "a", "c")]


def test_notes_of_a_unit_are_distinct_and_few():
    flight = UnitInFlight(unit=None)
    for number in range(3 * MAX_UNIT_NOTES):
        flight.note(f"note {number // 2}")
    assert flight.result().notes == tuple(f"note {number}" for number in range(MAX_UNIT_NOTES))
