"""A worker without a file's mount leaves the unit: no attempt counts, another host takes it, and it is reported."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import text

from worker.analysis.decode_pool import DecodePool, UnitDecoded, UnitFrame
from worker.analysis.results import UnitResult
from worker.analysis.store.writer import Writer, WriterContext
from worker.errors import MediaUnreachable
from worker.ledger import units as ledger
from worker.ledger.leases import LeaseHolder
from worker.ledger.status.health import run_health_checks
from worker.ledger.units import leave_unit
from worker.ledger.unreachable.places import UnreachablePlaces
from worker.storage.crops import CropStore
from worker.types import DecodeLimits


def move(archive, media_id, location):
    sha256 = hashlib.sha256(Path(location).read_bytes()).hexdigest() if Path(location).is_file() else None
    with archive.sessions.begin() as session:
        session.execute(
            text("UPDATE media_file SET location = :l, sha256 = coalesce(:sha256, sha256) WHERE media_id = :m"),
            {"l": str(location), "m": media_id, "sha256": sha256},
        )


def unit_rows(archive):
    with archive.sessions.begin() as session:
        return session.execute(text("SELECT state, attempts, last_error FROM unit ORDER BY unit_id")).all()


def findings(archive):
    with archive.sessions.begin() as session:
        return [one for one in run_health_checks(session) if "wait for a host" in one]


def work(archive, unreachable, name="one"):
    """Do with units as a worker does, without analysing frames."""
    seen = []
    with LeaseHolder(archive.sessions, archive.lease(name), unreachable=unreachable) as leases:
        context = WriterContext(archive.sessions, leases, CropStore("memory://crops"), archive.ids, {}, 3)
        pool = DecodePool(1, DecodeLimits(), 1 << 20)
        try:
            with Writer(context) as writer:
                while units := leases.take(4):
                    for unit in units:
                        pool.submit(unit)
                        frames = 0
                        while not isinstance(event := pool.next_event(10), UnitDecoded):
                            frames += isinstance(event, UnitFrame)
                        result = UnitResult(unit=unit, frame_count=frames, error=event.error)
                        if isinstance(event.error, MediaUnreachable):
                            leases.avoid(unit, event.error)
                            writer.fail(result)
                        else:
                            writer.store(result)
                        seen.append(unit.unit_id)
                    writer.wait()
        finally:
            pool.close()
    return seen


@pytest.fixture
def files(archive, tmp_path):
    """Three files on a disk that is away, one that was deleted, one that is there."""
    (tmp_path / "here").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "here" / "a.png")
    places = [*(f"nas/{n}.jpg" for n in range(3)), "here/deleted.jpg", "here/a.png"]
    for media_id, place in enumerate(places, start=1):
        archive.add()
        move(archive, media_id, tmp_path / place)
    return tmp_path


def test_units_on_a_disk_that_is_away_are_left_and_others_done(archive, files):
    unreachable = UnreachablePlaces()
    seen = work(archive, unreachable)
    assert len(seen) <= 5, "it went on taking what it cannot read"
    rows = unit_rows(archive)
    assert [row.state for row in rows] == ["pending"] * 3 + ["rejected", "done"]
    assert [row.attempts for row in rows[:3]] == [0, 0, 0]
    assert rows[3].last_error.startswith("missing: ")
    assert unreachable.places() == [str(files / "nas")]
    assert work(archive, unreachable) == []

    host = socket.gethostname()
    (complaint,) = findings(archive)
    assert complaint.startswith(
        f"files wait for a host that has them: {files / 'nas'} cannot be read on {host}; is it mounted?"
    )
    for number in range(3):  # now it is mounted: another worker takes them, none of which counts as a suspect
        (files / "nas").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(files / "nas" / f"{number}.jpg")
    assert work(archive, UnreachablePlaces(), "two") == [1, 2, 3]
    assert archive.job() == {"submitted": 5, "done": 4, "rejected": 1, "quarantined": 0, "pending": 0}
    assert findings(archive) == []


def test_hosts_that_lack_a_file_are_named_once_each(archive, monkeypatch):
    archive.add()
    away = MediaUnreachable("/nas", "/nas is not there")
    for host in ("alpha", "beta", "alpha"):
        monkeypatch.setattr("worker.ledger.unreachable.places.socket.gethostname", lambda host=host: host)
        with archive.sessions.begin() as session:
            (unit,) = ledger.lease_units(session, archive.lease(host), 1)
            leave_unit(session, unit, away)
    assert [(row.attempts, row.last_error) for row in unit_rows(archive)] == [
        (0, "away: /nas cannot be read on alpha, beta")
    ]


def test_a_lost_lease_is_not_left(archive):
    archive.add()
    with archive.sessions.begin() as session:
        (unit,) = ledger.lease_units(session, archive.lease(seconds=0), 1)
    with archive.sessions.begin() as session:
        ledger.lease_units(session, archive.lease("two"), 1, suspects=True)
        leave_unit(session, unit, MediaUnreachable("/nas", "gone"))
    assert [(row.state, row.last_error) for row in unit_rows(archive)] == [("leased", None)]


@pytest.mark.parametrize("suspects", [False, True])
def test_places_that_are_away_are_passed_over(archive, suspects):
    for number, place in enumerate(("/nas/a.jpg", "/nas2/b.jpg", "s3://bucket/c.jpg", "/nas"), start=1):
        archive.add()
        move(archive, number, place)
    with archive.sessions.begin() as session:
        if suspects:
            session.execute(text("UPDATE unit SET attempts = 1"))
        lease = ledger.Lease(
            owner="one", release_id=archive.release_id, seconds=9, max_attempts=3, unreachable=("/nas", "s3://bucket")
        )
        taken = [unit.location for unit in ledger.lease_units(session, lease, 9, suspects=suspects)]
        again = [unit.location for unit in ledger.lease_units(session, lease, 9, suspects=suspects)]
    assert taken + again == ["/nas2/b.jpg"]


def test_ranges_of_a_film_that_others_could_take_are_not_hoarded(archive):
    archive.add(units=3, kind="video")
    archive.add()
    with LeaseHolder(archive.sessions, archive.lease()) as leases:
        taken = [(unit.kind, unit.ordinal) for unit in leases.take(4, videos=1)]
        assert taken == [("video", 0), ("image", 0)]
        with LeaseHolder(archive.sessions, archive.lease("two")) as others:
            assert [unit.ordinal for unit in others.take(4, videos=1)] == [1]
    assert [(row.state, row.attempts) for row in unit_rows(archive)] == [("pending", 0)] * 4
