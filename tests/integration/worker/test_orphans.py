"""Crops of attempts that were broken off, on a real PostgreSQL and a real folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import text

from worker.analysis.results import UnitResult
from worker.analysis.store.face_rows import strip_name
from worker.analysis.store.writer import Writer, WriterContext
from worker.errors import DecoderCrashed
from worker.ledger import units as ledger
from worker.ledger.upkeep.orphans import remove_orphans
from worker.storage.crops import CropStore

CROPS = np.zeros((2, 16, 16, 3), np.uint8)


@pytest.fixture
def store(tmp_path):
    return CropStore(str(tmp_path / "crops"))


@pytest.fixture
def writer(archive, store):
    leases = SimpleNamespace(drop=lambda unit: None)
    with Writer(WriterContext(archive.sessions, leases, store, archive.ids, {}, 3)) as writer:
        yield writer


def take(archive, owner="one", *, suspects=False):
    with archive.sessions.begin() as session:
        (unit,) = ledger.lease_units(session, archive.lease(owner), 1, suspects=suspects)
    return unit


def write(store, unit, strip=0):
    store.write(strip_name(unit, strip), CROPS)
    return strip_name(unit, strip)


def listed(store):
    root = Path(store.url)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))


def name_in_a_row(archive, unit, name):
    with archive.sessions.begin() as session:
        session.execute(
            text("INSERT INTO crop_strip (unit_id, strip_no, uri) SELECT :u, count(*), :uri FROM crop_strip"),
            {"u": unit.unit_id, "uri": name},
        )


def test_a_second_attempt_writes_over_nothing(archive, store):
    archive.add()
    first = take(archive)
    assert strip_name(first, 0) != strip_name(replace(first, token=first.token + 1), 0)


def test_what_a_row_names_and_what_is_in_work_stays(archive, store):
    archive.add(units=2)
    one, two = take(archive), take(archive)
    stored, writing = write(store, one), write(store, two)
    write(store, replace(one, token=7))
    older = stored.replace("-1-0.png", "-0.png")  # the names of versions before had no token
    store.write(older, CROPS)
    name_in_a_row(archive, one, stored)
    with archive.sessions.begin() as session:
        ledger.finish_unit(session, one, "done")
    assert remove_orphans(archive.sessions, store, [one.analysis_id, one.analysis_id]) == 1
    assert listed(store) == sorted((stored, older, writing))


def test_an_attempt_that_lost_its_unit_takes_its_crops_along(archive, store, writer):
    archive.add()
    late = take(archive)
    archive.expire_leases()
    ours = take(archive, "two", suspects=True)
    lost, kept = write(store, late), write(store, ours)
    writer.store(UnitResult(unit=late, frame_count=1))
    writer.wait()
    assert listed(store) == [kept]
    name_in_a_row(archive, ours, kept)
    write(store, late)
    writer.store(UnitResult(unit=ours, frame_count=1))
    writer.wait()
    assert listed(store) == [kept], "the worker that stores the unit removes orphans of others"
    assert lost != kept


def test_an_attempt_that_failed_leaves_nothing(archive, store, writer):
    archive.add()
    unit = take(archive)
    write(store, unit)
    writer.fail(UnitResult(unit=unit, error=DecoderCrashed("crashed", "signal 11")))
    writer.wait()
    assert listed(store) == []


def test_a_late_attempt_leaves_nothing_of_an_erased_file(archive, store, writer):
    archive.add()
    unit = take(archive)
    with archive.sessions.begin() as session:
        for table in ("job_item", "analysis", "media_file"):
            session.execute(text(f"DELETE FROM {table}"))
    write(store, unit)
    writer.store(UnitResult(unit=unit, frame_count=1))
    writer.wait()
    assert listed(store) == []


def test_files_of_an_erased_analysis_are_left_to_its_erasure(archive, store):
    assert remove_orphans(archive.sessions, store, [99]) == 0


def test_a_store_that_is_away_costs_nothing_else(archive, tmp_path):
    archive.add()
    unit = take(archive)
    (tmp_path / "file").write_text("")
    broken = CropStore(str(tmp_path / "file" / "crops"))
    assert remove_orphans(archive.sessions, broken, [unit.analysis_id]) == 0
