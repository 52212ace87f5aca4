"""A disk that is full while archives are unpacked: nothing is said of the archive, and nothing is left."""

from __future__ import annotations

import bz2
import errno
import fcntl
import gzip
import io
import lzma
import os
import random
import resource
import tarfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zstandard

from worker.errors import RetryableError
from worker.ingest import FoundFile, IngestOptions, discover
from worker.storage.crops import CropStore
from worker.storage.fetch_cache import FetchCache, Transfer
from worker.storage.staging import PARTIAL_PREFIX, Staging

JPEG = b"\xff\xd8\xff\xe0"
LIMIT_BYTES = 40_000
READABLE_BYTES = 100_000


@contextmanager
def small_disk():
    """A disk that takes files of 40 kB: what goes beyond is refused, as on a full one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noise(count: int) -> bytes:
    return JPEG + random.Random(count).randbytes(count)


def zipped(members, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
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
    "deflated zip": lambda members: zipped(members, zipfile.ZIP_DEFLATED),
    "bzip2 zip": lambda members: zipped(members, zipfile.ZIP_BZIP2),
    "lzma zip": lambda members: zipped(members, zipfile.ZIP_LZMA),
    "tar": tarred,
    "tar.gz": lambda members: gzip.compress(tarred(members)),
    "tar.bz2": lambda members: bz2.compress(tarred(members)),
    "tar.xz": lambda members: lzma.compress(tarred(members)),
    "tar.zst": lambda members: zstandard.compress(tarred(members)),
    "zip in a tar": lambda members: tarred({"inner.zip": zipped(members)}),
    "tar.gz in a zip": lambda members: zipped({"inner.tgz": gzip.compress(tarred(members))}),
}
SIZES = {"one large": [200_000], "just too large": [LIMIT_BYTES - 3], "small ones first": [900, 5000, 200_000, 700]}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_disk_that_is_full_is_told_as_such(tmp_path, packer, sizes):
    path, staging = tmp_path / "archive", tmp_path / "staging"
    path.write_bytes(PACKERS[packer]({f"{n}.jpg": noise(size) for n, size in enumerate(SIZES[sizes])}))
    told = []
    with small_disk(), pytest.raises(RetryableError, match="free space"):
        told.extend(discover([str(path)], IngestOptions(), staging))
    assert all(isinstance(item, FoundFile) for item in told)
    assert not [file for file in staging.rglob("*") if file.name.startswith(PARTIAL_PREFIX)]
    again = list(discover([str(path)], IngestOptions(), staging))
    assert [type(item) for item in again] == [FoundFile] * len(SIZES[sizes])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("failing", ["write", "dup", "replace", "unlink"])
def test_whatever_the_disk_says_and_whenever(tmp_path, monkeypatch, number, failing):
    def fail(*_args, **_options):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "archive"
    path.write_bytes(zipped({"a.jpg": noise(500), "b.jpg": noise(600)}))
    if failing == "write":
        from io import FileIO

        class Full(FileIO):
            write = fail

        monkeypatch.setattr("worker.storage.staging.FileIO", Full)
    elif failing == "dup":
        monkeypatch.setattr("worker.storage.staging.os.dup", fail)
    else:
        monkeypatch.setattr(Path, failing, fail)
    if failing == "unlink":  # the copies are whole: nothing is wrong but what could not be tidied up
        assert len(list(discover([str(path)], IngestOptions(), tmp_path / "staging"))) == 2
        return
    with pytest.raises(RetryableError):
        list(discover([str(path)], IngestOptions(), tmp_path / "staging"))


@pytest.mark.parametrize("packer", ["zip", "deflated zip", "tar", "tar.gz", "tar.xz", "tar.zst"])
def test_a_disk_that_cannot_be_read_is_no_damaged_archive(tmp_path, monkeypatch, packer):
    """Bytes that do not come, in the middle of a member, are the disk's fault as well."""
    path = tmp_path / "archive"
    path.write_bytes(PACKERS[packer]({"a.jpg": noise(3 * READABLE_BYTES)}))
    opened = Path.open

    class Failing(io.FileIO):
        def read(self, size=-1, /):
            if self.tell() + size > READABLE_BYTES:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

        def readinto(self, buffer, /):
            if self.tell() + len(buffer) > READABLE_BYTES:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().readinto(buffer)

    monkeypatch.setattr(Path, "open", lambda self, mode="r", **o: Failing(self) if "b" in mode else opened(self, mode))
    monkeypatch.setattr(
        "worker.ingest.archives.zips.zipfile.ZipFile.__init__", _open_failing(zipfile.ZipFile.__init__, Failing)
    )
    if "zip" in packer:
        monkeypatch.setattr("worker.ingest.archives.zips._check_directory", lambda _path: None)
    items = list(discover([str(path)], IngestOptions(), tmp_path / "staging"))
    assert {item.code for item in items} == {"unreadable"}


def _open_failing(init, failing):
    def opened(self, path):
        with open(path, "rb") as whole:  # noqa: PTH123 - Path.open fails here
            directory = whole.read()
        init(self, io.BytesIO(directory))
        self.fp, self._filePassed = failing(path), 0  # which close() closes

    return opened


def test_what_a_killed_process_left_half_unpacked_goes_and_what_is_being_unpacked_stays(tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    left, held = staging / f"{PARTIAL_PREFIX}left", staging / f"{PARTIAL_PREFIX}held"
    left.write_bytes(b"half a member")
    held.write_bytes(b"another process is at it")
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Staging(staging).add(JPEG, io.BytesIO(b"x"), "jpg")
        assert not left.exists()
        assert held.exists()
        with Staging(staging).temporary_copy(JPEG, io.BytesIO(b"y")) as lent:
            Staging(staging).add(JPEG, io.BytesIO(b"z"), "jpg")
            assert lent.read_bytes() == JPEG + b"y"
    Staging(staging).add(JPEG, io.BytesIO(b"x"), "jpg")
    assert sorted(path.suffix for path in staging.rglob("*") if path.is_file()) == [".jpg", ".jpg"]


def test_a_full_cache_folder_and_a_full_crop_store_are_worth_another_try(tmp_path):
    cache = FetchCache(tmp_path / "staging", 1 << 30)
    with (
        small_disk(),
        pytest.raises(RetryableError, match="free space"),
        cache.open_copy(lambda: Transfer(200_000, [noise(100_000)] * 2)),
    ):
        pass
    assert not [path for path in (tmp_path / "staging").rglob("*") if path.is_file() and path.stat().st_size]
    crops = np.random.default_rng(1).integers(0, 255, (9, 64, 64, 3), np.uint8)
    with small_disk(), pytest.raises(RetryableError, match="free space"):
        CropStore(str(tmp_path / "crops")).write("aa/bb/1/0-1-0.png", crops)
    assert not [path for path in (tmp_path / "crops").rglob("*") if path.is_file()]
