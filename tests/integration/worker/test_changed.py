"""Files that are overwritten between submission and analysis: nothing that is found in other bytes is stored."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from worker.analysis.decode_pool import DecodePool, UnitDecoded, UnitFrame
from worker.analysis.results import UnitResult
from worker.analysis.runner import Worker
from worker.analysis.store.writer import Writer, WriterContext
from worker.cli.demo import build_archive
from worker.config import Settings
from worker.decode.client import Decoder
from worker.errors import DecoderCrashed, MediaChanged, MediaUnreachable
from worker.ingest import IngestOptions, discover
from worker.ledger.leases import LeaseHolder
from worker.ledger.submission.job import Submission
from worker.ledger.submission.prober import FileProber
from worker.ledger.submission.submit import submit
from worker.releases.folders import load_own
from worker.storage.crops import CropStore
from worker.storage.database import open_database
from worker.storage.sources import Sources
from worker.storage.stamps import settled_stamp, stamp_of
from worker.types import DecodeLimits

SECONDS = 8


def write_image(path, seed):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 20, 3), np.uint8)).save(path, "BMP")


def write_video(path, seed, seconds=SECONDS):
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("rawvideo", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(seconds):
            pixels = np.full((48, 64, 3), (37 * seed + 5 * number) % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


WRITE = {"image": write_image, "video": write_video}


def overwrite(path, other):
    path.write_bytes(other.read_bytes())


def overwrite_unseen(path, other):
    """The same size, and the time of modification put back."""
    before = path.stat()
    assert before.st_size == other.stat().st_size
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path, other):
    before = path.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def retarget(path, other):
    path.unlink()
    path.symlink_to(other)


def mapped(path, other):
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[-2000:] = other.read_bytes()[-2000:]


CHANGES = {
    "overwritten": overwrite,
    "same size and time": overwrite_unseen,
    "renamed over": replace,
    "link retargeted": retarget,
    "through a mapping": mapped,
    "truncated": lambda path, _: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path, _: os.truncate(path, 0),
    "appended": lambda path, other: path.write_bytes(path.read_bytes() + other.read_bytes()),
    "one byte": lambda path, _: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "not media any more": lambda path, _: path.write_text("x" * path.stat().st_size),
}


class Desk:
    """Submits files and decodes their units, as a worker does without looking at frames."""

    def __init__(self, archive, folder, decoder, pool):
        self.archive = archive
        self.staging = folder / "staging"
        self.decoder = decoder
        self.pool = pool

    def submit(self, *paths, before_probe=lambda: None, unit_seconds=SECONDS / 4 / 25):  # two frames a unit
        archive = self.archive
        wanted = Submission(name="s", release=archive.ids, frames_per_second=1.0, unit_seconds=unit_seconds)
        found = list(discover([str(path) for path in paths], IngestOptions(), self.staging))
        prober = FileProber(self.decoder, Sources())
        items = list(prober.remember(found))
        before_probe()
        submit(archive.sessions, items, wanted, prober)
        return found

    def work(self, limit=99):
        archive = self.archive
        with LeaseHolder(archive.sessions, archive.lease("one")) as leases:
            context = WriterContext(archive.sessions, leases, CropStore("memory://crops"), archive.ids, {}, 3)
            with Writer(context) as writer:
                units = leases.take(limit, videos=limit)
                for unit in units:
                    self.decode(writer, unit)
                writer.wait()
        return len(units)

    def decode(self, writer, unit):
        self.pool.submit(unit)
        frames = 0
        while not isinstance(event := self.pool.next_event(10), UnitDecoded):
            frames += isinstance(event, UnitFrame)
        result = UnitResult(unit=unit, frame_count=frames, error=event.error)
        lost = isinstance(event.error, MediaUnreachable | MediaChanged | DecoderCrashed)
        (writer.fail if lost else writer.store)(result)

    def rows(self, query="SELECT state, split_part(reason, ':', 1) FROM analysis ORDER BY analysis_id"):
        with self.archive.sessions.begin() as session:
            return [tuple(row) for row in session.execute(text(query))]

    def units(self):
        return [state for (state,) in self.rows("SELECT state FROM unit ORDER BY unit_id")]


@pytest.fixture(scope="module")
def decoder():
    with Decoder(DecodeLimits()) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def pool():
    pool = DecodePool(1, DecodeLimits(), 1 << 24)
    yield pool
    pool.close()


@pytest.fixture
def desk(archive, tmp_path, decoder, pool):
    return Desk(archive, tmp_path, decoder, pool)


@pytest.fixture(params=["image", "video"])
def files(request, tmp_path, monkeypatch):
    """A file, other bytes of the same size, and a copy of the first; its stamp counts at once."""
    monkeypatch.setattr("worker.storage.stamps.SETTLED_NS", 0)
    names = tmp_path / "a", tmp_path / "other", tmp_path / "copy"
    for path, seed in zip(names, (1, 2, 1), strict=True):
        WRITE[request.param](path, seed)
    return names


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_is_rejected_and_analysed_where_it_is_found_again(desk, files, change):
    path, other, copy = files
    desk.submit(path)
    CHANGES[change](path, other)
    desk.work()
    assert desk.rows() == [("rejected", "changed")]
    assert set(desk.units()) == {"rejected"}
    desk.submit(copy)
    assert desk.rows() == [("pending", None)]
    desk.work()
    assert desk.rows() == [("done", None)]
    assert set(desk.units()) == {"done"}
    assert desk.rows("SELECT status, reason FROM media")[0][0] == "done"


def test_new_bytes_are_another_file(desk, files):
    path, other, _ = files
    desk.submit(path)
    overwrite(path, other)
    desk.submit(path)
    desk.work()
    assert desk.rows() == [("rejected", "changed"), ("done", None)]
    assert len(desk.rows("SELECT DISTINCT sha256 FROM media_file")) == 2


@pytest.mark.parametrize(
    "touch",
    [
        lambda path, _: os.utime(path),
        lambda path, _: path.chmod(0o600),
        lambda path, copy: copy.replace(path),
        lambda path, copy: path.write_bytes(copy.read_bytes()),
        lambda path, copy: (path.unlink(), path.symlink_to(copy)),
    ],
    ids=["touched", "mode", "renamed over", "written again", "linked"],
)
def test_the_same_bytes_under_another_stamp_are_analysed(desk, files, touch):
    path, _, copy = files
    desk.submit(path)
    touch(path, copy)
    desk.work()
    assert desk.rows() == [("done", None)]


def test_a_video_that_changes_between_its_units_is_rejected_as_a_whole(desk, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.storage.stamps.SETTLED_NS", 0)
    path, other = tmp_path / "a", tmp_path / "other"
    write_video(path, 1)
    write_video(other, 2)
    desk.submit(path)
    desk.work(2)
    assert desk.units() == ["done", "done", "pending", "pending"]
    with desk.archive.sessions.begin() as session:
        session.execute(text("INSERT INTO scene_cut SELECT unit_id, 1, analysis_id FROM unit WHERE state = 'done'"))
    overwrite_unseen(path, other)
    with LeaseHolder(desk.archive.sessions, desk.archive.lease("two")) as holder:
        assert len(holder.take(1, videos=1)) == 1  # another worker is at it, and loses it
        desk.work(1)
        assert desk.rows() == [("rejected", "changed")]
        assert desk.units() == ["rejected"] * 4
    assert desk.units() == ["rejected"] * 4
    assert desk.rows("SELECT count(*) FROM scene_cut") == [(0,)]
    assert desk.rows("SELECT sum(frame_count) FROM analysis") == [(0,)]


def test_a_video_that_is_written_to_while_it_is_decoded_is_rejected(desk, tmp_path, monkeypatch):
    path, other = tmp_path / "a", tmp_path / "other"
    write_video(path, 1)
    write_video(other, 2)
    desk.submit(path, unit_seconds=60)
    request = DecodePool._request

    def late(pool, unit, location):
        overwrite(path, other)
        return request(pool, unit, location)

    monkeypatch.setattr(DecodePool, "_request", late)
    desk.work()
    assert desk.rows() == [("rejected", "changed")]


def test_a_video_that_changes_before_it_is_probed_is_refused_and_planned_when_found(desk, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.storage.stamps.SETTLED_NS", 0)
    path, other, copy = tmp_path / "a", tmp_path / "other", tmp_path / "copy"
    for one, seed in ((path, 1), (other, 2), (copy, 1)):
        write_video(one, seed)
    desk.submit(path, before_probe=lambda: overwrite_unseen(path, other))
    assert desk.rows("SELECT split_part(reason, ':', 1) FROM media_file") == [("changed",)]
    assert desk.units() == []
    desk.submit(copy)
    desk.work()
    assert desk.rows("SELECT status, reason FROM media") == [("done", None)]


def test_a_staged_member_that_was_damaged_is_rejected_and_staged_again(desk, tmp_path):
    build_archive(tmp_path / "demo")
    archives = [path for path in (tmp_path / "demo").rglob("*") if path.suffix == ".zip"]
    found = desk.submit(*archives)
    staged = {Path(item.location) for item in found if getattr(item, "kind", "") == "image"}
    for path in staged:
        path.write_bytes(bytes(reversed(path.read_bytes())))
    while desk.work():
        pass
    reasons = desk.rows("SELECT DISTINCT kind, a.state FROM analysis a JOIN media_file USING (media_id) ORDER BY 1")
    assert reasons[0] == ("image", "rejected")
    desk.submit(*archives)
    while desk.work():
        pass
    assert {state for state, _ in desk.rows()} == {"done"}


def test_a_missing_file_is_analysed_where_it_is_found_again(desk, tmp_path):
    path = tmp_path / "folder" / "a"
    path.parent.mkdir()
    (path.parent / "beside").touch()
    write_image(path, 1)
    desk.submit(path)
    path.rename(tmp_path / "moved")
    desk.work()
    assert desk.rows() == [("rejected", "missing")]
    desk.submit(tmp_path / "moved")
    desk.work()
    assert desk.rows() == [("done", None)]


def test_a_corrupt_file_is_not_tried_again(desk, tmp_path):
    path = tmp_path / "a"
    write_image(path, 1)
    path.write_bytes(path.read_bytes()[:100])
    for _ in range(2):
        desk.submit(path)
        desk.work()
        assert desk.rows()[0][0] == "rejected"
        assert desk.rows()[0][1] != "changed"
    assert desk.rows("SELECT attempts FROM unit") == [(1,)]


def test_a_stamp_counts_only_when_a_later_change_would_show(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("a")
    found = path.stat()
    assert settled_stamp(found, found) is None, "it may be changed once more within the same tick"
    monkeypatch.setattr("worker.storage.stamps.SETTLED_NS", 0)
    assert settled_stamp(found, found) == stamp_of(found)
    path.write_text("b")
    assert settled_stamp(found, path.stat()) is None


def test_faces_of_other_bytes_are_not_stored(clean_database, tmp_path, decoder):
    build_archive(tmp_path / "demo")
    portrait, other = sorted((tmp_path / "demo" / "portraits").iterdir())
    path = tmp_path / "media" / "a.jpg"
    path.parent.mkdir()
    overwrite(path, portrait)
    config = Settings(home=tmp_path / "home", database_url=clean_database, decoders=1)
    with open_database(config) as database:
        worker = Worker(config, database, load_own(config))
        wanted = Submission(name="s", release=worker.ids, frames_per_second=2.0, unit_seconds=60.0)

        def analyse(change):
            submit(database.sessions, discover([str(path)], IngestOptions(), tmp_path / "staging"), wanted, decoder)
            change()
            worker.drain(threading.Event())
            with database.sessions.begin() as session:
                query = text("SELECT status, (SELECT count(*) FROM face) FROM media ORDER BY media_id")
                return [tuple(row) for row in session.execute(query)]

        assert analyse(lambda: overwrite(path, other)) == [("rejected", 0)]
        overwrite(path, portrait)
        ((state, faces),) = analyse(lambda: None)
        assert state == "done"
        assert faces > 0
