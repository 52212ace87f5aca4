"""A full disk and a database that is away, met with units in hand: they go back, and the attempt does not count."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, OperationalError

from worker.analysis.results import StoredFaces, UnitResult
from worker.analysis.store.face_rows import strip_name
from worker.analysis.store.writer import Writer, WriterContext
from worker.errors import RetryableError
from worker.ledger.leases import LeaseHolder
from worker.storage.crops import CropStore
from worker.storage.staging import Staging


def units(archive):
    with archive.sessions.begin() as session:
        return session.execute(text("SELECT state, attempts, owner, last_error FROM unit ORDER BY unit_id")).all()


def one_face(dropped):
    return StoredFaces(
        frame_index=np.zeros(1, np.int64),
        at_seconds=np.zeros(1),
        boxes=np.zeros((1, 4), np.float32),
        landmarks=np.zeros((1, 5, 2), np.float32),
        scores=np.ones(1, np.float32),
        quality=np.ones(1, np.float32),
        dropped=(dropped,),
        crop_strip=np.zeros(1, np.int32),
        crop_index=np.zeros(1, np.int32),
    )


def analyse(archive, store, spoil=lambda unit: None, dropped=None):
    """Store a leased unit as the pipeline does."""
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        (unit,) = leases.take(1)
        spoil(unit)
        with Writer(WriterContext(archive.sessions, leases, store, archive.ids, {}, 3)) as writer:
            writer.add_crops(unit, 0, np.zeros((1, 16, 16, 3), np.uint8))
            writer.store(UnitResult(unit=unit, frame_count=1, faces=(one_face(dropped),)))
            writer.wait()
    return unit


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_crop_store(archive, tmp_path):
    archive.add()
    store = CropStore(str(tmp_path / "crops"))
    part = []

    def fill_disk(unit):
        part.append(tmp_path / "crops" / (strip_name(unit, 0) + ".part"))
        part[0].parent.mkdir(parents=True)
        part[0].symlink_to("/dev/full")

    with pytest.raises(RetryableError, match="No space left on device: crops go to"):
        analyse(archive, store, fill_disk)
    assert units(archive) == [("pending", 0, None, None)]
    assert not part[0].is_symlink(), "what was half written is gone"
    assert analyse(archive, store).attempts == 1
    assert [unit.state for unit in units(archive)] == ["done"]


def test_a_full_staging_folder(tmp_path, monkeypatch):
    link = tmp_path / ".partial-1"  # a name that goes with the copy, never the device itself

    def full(self):
        link.symlink_to("/dev/full")
        return io.FileIO(link, "r+b")

    monkeypatch.setattr(Staging, "_new", full)
    with pytest.raises(RetryableError, match=r"cannot be written \(No space left on device\); free space"):
        Staging(tmp_path).add(b"head", io.BytesIO(), "png")
    assert not link.is_symlink()


def test_a_database_that_goes_away_is_not_the_units_fault(archive):
    archive.add()

    def lose_it():
        with LeaseHolder(archive.sessions, archive.lease()) as leases:
            leases.take(1)
            raise OperationalError("SELECT", {}, OSError(errno.ECONNRESET, "the server closed the connection"))

    with pytest.raises(OperationalError):
        lose_it()
    assert units(archive) == [("pending", 0, None, None)]


def test_what_the_database_refuses_is(archive, tmp_path):
    archive.add()

    with pytest.raises(DataError):
        analyse(archive, CropStore(str(tmp_path / "crops")), dropped="\x00")  # no text that PostgreSQL takes
    ((state, attempts, _, last_error),) = units(archive)
    assert (state, attempts) == ("pending", 1)
    assert last_error.startswith("worker_error: DataError")


def test_a_database_that_is_full_is_away(archive, tmp_path, monkeypatch):
    from psycopg.errors import DiskFull

    archive.add()

    def full(*_):
        raise OperationalError("COPY", {}, DiskFull("could not extend file: No space left on device"))

    monkeypatch.setattr("worker.analysis.store.face_rows.copy_columns", full)
    with pytest.raises(RetryableError, match="could not extend file"):
        analyse(archive, CropStore(str(tmp_path / "crops")))
    assert units(archive) == [("pending", 0, None, None)]
