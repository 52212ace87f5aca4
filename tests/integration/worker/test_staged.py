"""Members of archives: their copies go when nothing waits for them, and are unpacked again when a unit does."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import zstandard
from sqlalchemy import text

from worker.errors import MediaRejected, MediaUnreachable
from worker.ingest import FoundFile, IngestOptions, discover
from worker.ledger.upkeep.staged_members import StagedMembers
from worker.storage.sources import Sources
from worker.storage.staging import PARTIAL_PREFIX

JPEG = b"\xff\xd8\xff\xe0"
MEMBERS = {"a.jpg": JPEG + b"one", "folder/b.jpg": JPEG + b"two", "c!/d.jpg": JPEG + b"three"}


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


PACKERS = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda members: gzip.compress(tarred(members)),
    "tar.bz2": lambda members: bz2.compress(tarred(members)),
    "tar.xz": lambda members: lzma.compress(tarred(members)),
    "tar.zst": lambda members: zstandard.compress(tarred(members)),
    "zip in a tar": lambda members: tarred({"in ner!/x.zip": zipped(members), "other.txt": b"text"}),
    "tar.gz in a zip": lambda members: zipped({"inner.tgz": gzip.compress(tarred(members)), "e.jpg": JPEG}),
}


class House:
    """A host with a staging folder and an archive that was submitted."""

    def __init__(self, archive, folder):
        self.archive = archive
        self.staging = folder / "staging"
        self.packed = folder / "an!/packed"
        self.members = StagedMembers(self.staging, IngestOptions(), archive.sessions)
        self.sources = Sources(staging=self.staging, members=self.members)

    def submit(self, data):
        self.packed.parent.mkdir(parents=True, exist_ok=True)
        self.packed.write_bytes(data)
        found = list(discover([str(self.packed)], IngestOptions(), self.staging))
        self.archive.submit(found)
        return {Path(item.location): item.sha256 for item in found if isinstance(item, FoundFile)}

    def end(self, state="done"):
        with self.archive.sessions.begin() as session:
            session.execute(text("UPDATE analysis SET state = :s, reason = 'x', finished_at = now()"), {"s": state})

    def evict(self, **options):
        with self.archive.sessions() as session:
            return self.members.evict(session, **options)

    def copies(self):
        return {path for path in self.staging.rglob("*") if path.is_file()}

    def age(self, seconds):
        for path in self.copies():
            os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def house(archive, tmp_path):
    return House(archive, tmp_path)


@pytest.mark.parametrize("state", ["done", "rejected", "quarantined", "cancelled"])
def test_copies_stay_while_an_analysis_waits_and_go_when_it_has_ended(house, state):
    copies = house.submit(zipped(MEMBERS))
    assert house.evict() == 0
    assert house.copies() == set(copies)
    house.end(state)
    assert house.evict() == 3
    assert house.copies() == set()


@pytest.mark.parametrize("packer", PACKERS)
def test_a_copy_that_is_gone_is_unpacked_again(house, packer):
    copies = house.submit(PACKERS[packer](MEMBERS))
    house.end()
    house.evict()
    for location in copies:
        with house.sources.open_local(str(location)) as path:
            assert Path(path).read_bytes() in {*MEMBERS.values(), JPEG}
        assert house.copies() == {location}, "and no other member"
        house.evict()


def test_a_copy_is_found_by_the_address_of_any_job(house):
    """The file was met outside of an archive first; that one is gone since."""
    (copy,) = house.submit(zipped({"a.jpg": MEMBERS["a.jpg"]}))
    with house.archive.sessions.begin() as session:
        session.execute(text("UPDATE media_file SET uri = '/gone/a.jpg'"))
    copy.unlink()
    with house.sources.open_local(str(copy)) as path:
        assert Path(path).read_bytes() == MEMBERS["a.jpg"]


def test_an_archive_that_changed_or_went_says_so(house):
    (copy,) = house.submit(zipped({"a.jpg": MEMBERS["a.jpg"]}))
    copy.unlink()
    house.packed.write_bytes(zipped({"a.jpg": JPEG + b"other"}))
    with pytest.raises(MediaRejected, match="no longer holds") as told, house.sources.open_local(str(copy)):
        pass
    assert told.value.code == "missing"
    (house.packed.parent / "neighbour").write_text("the disk is there")
    house.packed.unlink()
    with pytest.raises(MediaRejected, match="deleted or moved"), house.sources.open_local(str(copy)):
        pass
    (house.packed.parent / "neighbour").unlink()
    with pytest.raises(MediaUnreachable, match="mount"), house.sources.open_local(str(copy)):
        pass


def test_an_archive_outside_of_the_roots_is_not_opened(house, tmp_path):
    (copy,) = house.submit(zipped({"a.jpg": MEMBERS["a.jpg"]}))
    copy.unlink()
    sources = Sources(staging=house.staging, members=house.members, roots=(str(tmp_path / "media"),))
    with pytest.raises(MediaUnreachable, match="FACET_MEDIA_ROOTS"), sources.open_local(str(copy)):
        pass


def test_a_copy_of_another_host_is_left_to_it(house, tmp_path):
    (copy,) = house.submit(zipped({"a.jpg": MEMBERS["a.jpg"]}))
    other = tmp_path / "elsewhere" / copy.relative_to(house.staging)
    with pytest.raises(MediaUnreachable, match="host that unpacked it"), house.sources.open_local(str(other)):
        pass


def test_what_a_submission_has_just_unpacked_stays_until_its_rows_are_written(house):
    list(discover([str(_file(house.packed, zipped(MEMBERS)))], IngestOptions(), house.staging))
    with house.archive.sessions.begin() as session:
        session.execute(text("UPDATE job SET submission = 'open', written_at = now()"))
    assert house.evict() == 0
    house.age(3600)
    assert house.evict() == 3, "older than what it wrote last: these have their rows, or never will"


@pytest.mark.parametrize("how", ["ended", "broken", "killed"])
def test_what_a_submission_that_is_over_did_not_write_goes(house, how):
    list(discover([str(_file(house.packed, zipped(MEMBERS)))], IngestOptions(), house.staging))
    (house.staging / f"{PARTIAL_PREFIX}killed").write_bytes(b"half a member")
    with house.archive.sessions.begin() as session:
        wrote = {"how": "open" if how == "killed" else how, "days": 2 if how == "killed" else 0}
        session.execute(
            text("UPDATE job SET submission = :how, written_at = now() - make_interval(days => :days)"), wrote
        )
    assert house.evict() == 3
    assert house.copies() == set()


def test_copies_of_fetched_files_and_foreign_files_are_left_alone(house):
    house.submit(zipped(MEMBERS))
    house.end()
    folder = house.staging / "ab"
    folder.mkdir(exist_ok=True)
    kept = {folder / f"ab{0:062x}.remote", folder / "notes.txt"}
    for path in kept:
        path.write_bytes(b"x")
    assert house.evict() == 3
    assert house.copies() == kept


def test_a_look_that_was_broken_off_goes_on(house):
    copies = house.submit(tarred({f"{n}.jpg": JPEG + bytes([n]) for n in range(20)}))
    house.end()
    removed = [house.evict(seconds=0.0) for _ in range(256)]
    assert sum(removed) == len(copies) == 20
    assert max(removed) < 20


def test_copies_that_an_erasure_elsewhere_left_to_this_host_are_forgotten_once_they_are_gone(house):
    (copy,) = house.submit(zipped({"a.jpg": MEMBERS["a.jpg"]}))
    other = f"/elsewhere/staging/ab/ab{0:062x}"
    with house.archive.sessions.begin() as session:
        session.execute(
            text("""INSERT INTO file_removal (kind, path, created_at)
                    SELECT 'staged', unnest(cast(:paths AS text[])), now() - interval '2 hours'"""),
            {"paths": [str(copy.with_suffix("")), other]},
        )
    for state, left in (("pending", 2), ("done", 2), ("done", 1)):  # the copy goes, then what was noted of it
        if state == "done":
            house.end()
        with house.archive.sessions.begin() as session:
            house.members.evict(session)
            assert session.execute(text("SELECT count(*) FROM file_removal")).scalar_one() == left
    with house.archive.sessions() as session:
        assert session.execute(text("SELECT path FROM file_removal")).scalar_one() == other


def _file(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
