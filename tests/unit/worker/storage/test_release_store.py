"""The release store gives back every byte, or says what is wrong."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from models.manifest import FILE, TRUNK_FILE, read_manifest, sha256_of_json
from worker.errors import FacetError, RetryableError, UsageError
from worker.storage.release_cache import MAX_CACHED, ReleaseCache
from worker.storage.release_store import ReleaseStore


@pytest.fixture(params=["folder", "file://", "memory://"])
def store(request, tmp_path):
    if request.param == "memory://":
        yield ReleaseStore("memory://releases-of-a-test")
        fs = fsspec.filesystem("memory")
        if fs.exists("/releases-of-a-test"):
            fs.rm("/releases-of-a-test", recursive=True)
    else:
        yield ReleaseStore(f"{request.param.removeprefix('folder')}{tmp_path / 'store'}")


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@contextmanager
def full_disk(room=10_000):
    """No file can grow beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(store, name, data):
    fs, root = fsspec.core.url_to_fs(store.url)
    fs.pipe_file(f"{root}/{name}", data)


def test_a_release_comes_back_byte_for_byte(store, make_release, tmp_path):
    first, second = make_release(1), make_release(2)
    assert store.names() == []
    names = [store.put(first), store.put(second)]
    assert names[0] == read_manifest(first).fingerprint
    assert store.names() == sorted(names)
    store.download(names[1], tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(second)
    assert store.count_bytes(names[0]) == sum(map(len, contents(first).values()))
    assert not list(tmp_path.rglob("*.part"))


def test_a_removed_release_is_gone(store, make_release, tmp_path):
    first, second = store.put(make_release(1)), store.put(make_release(2))
    size = store.count_bytes(first)
    assert store.remove(first) == size
    assert store.remove(first) == store.count_bytes(first) == 0
    assert store.names() == [second]
    with pytest.raises(FacetError, match=r"holds no .*release.json; run `facet releases register"):
        store.download(first, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("file", [FILE, TRUNK_FILE])
def test_a_flipped_byte_is_never_used(store, make_release, tmp_path, file):
    folder = make_release()
    name = store.put(folder)
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    write(store, f"{name}/{file}", bytes(data))
    with pytest.raises(FacetError, match=r"is damaged: .*register"):
        store.download(name, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []
    store.put(folder)  # all files are there, so nothing is compared
    with pytest.raises(FacetError, match="is damaged"):
        store.download(name, tmp_path / "copy")
    store.put(folder, again=True)
    store.download(name, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(folder)


def test_another_release_under_the_name_is_refused(store, make_release, tmp_path):
    first, other = make_release(1), make_release(2)
    name = store.put(first)
    for file, data in contents(other).items():
        write(store, f"{name}/{file}", data)
    with pytest.raises(FacetError, match=rf"its manifest is that of release {read_manifest(other).fingerprint}"):
        store.download(name, tmp_path / "copy")


def test_a_missing_file_is_named_and_put_again(store, make_release, tmp_path):
    folder = make_release()
    name = store.put(folder)
    fs, root = fsspec.core.url_to_fs(store.url)
    fs.rm_file(f"{root}/{name}/{TRUNK_FILE}")
    with pytest.raises(FacetError, match=rf"holds no {name}/{TRUNK_FILE}"):
        store.download(name, tmp_path / "copy")
    store.put(folder)
    store.download(name, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(folder)


def test_a_broken_off_upload_is_not_served(tmp_path, make_release):
    store = ReleaseStore(str(tmp_path / "store"))
    folder = make_release()
    with full_disk(), pytest.raises(RetryableError, match=r"File too large.*FACET_RELEASES_URL"):
        store.put(folder)
    assert store.names() == []
    assert not list(tmp_path.rglob("*.part"))
    store.put(folder)
    assert len(store.names()) == 1


def test_a_full_disk_of_the_host_leaves_nothing(tmp_path, make_release):
    store = ReleaseStore(str(tmp_path / "store"))
    name = store.put(make_release())
    with full_disk(), pytest.raises(RetryableError, match=r"File too large.*free space"):
        store.download(name, tmp_path / "cache" / name)
    assert list((tmp_path / "cache").iterdir()) == []


def test_parts_of_killed_uploads_are_removed(tmp_path, make_release):
    store, folder = ReleaseStore(str(tmp_path / "store")), make_release()
    target = tmp_path / "store" / store.put(folder)
    old, new = target / f"{TRUNK_FILE}-old.part", target / f"{TRUNK_FILE}-new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.put(folder, again=True)
    assert (old.exists(), new.exists()) == (False, True)
    store.remove(target.name)
    assert not target.exists()


def test_several_at_once(store, make_release, tmp_path):
    """Some put one release while others fetch it: whoever gets one gets all of it."""
    if store.url.startswith("memory:"):
        pytest.skip("the memory of fsspec empties a file before it writes it again; no store of a deployment does")
    folder = make_release()
    name = read_manifest(folder).fingerprint
    cache, errors, got = ReleaseCache(tmp_path / "cache", store), [], []
    until = time.monotonic() + 60

    def put():
        for _ in range(5):
            store.put(folder, again=True)

    def fetch():
        count = 0
        while count < 5 and time.monotonic() < until:
            try:
                with cache.open(name) as found:
                    got.append(contents(found) == contents(folder))
                count += 1
                cache.remove(name)
            except FacetError as err:
                errors.append(str(err))

    threads = [threading.Thread(target=work) for work in (put, fetch, put, fetch, fetch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 15
    assert [error for error in errors if f"holds no {name}" not in error] == []  # it was not there yet
    with cache.open(name):
        pass
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [name]


def test_a_folder_that_is_no_whole_release_is_not_taken(tmp_path, make_release):
    store = ReleaseStore(str(tmp_path / "store"))
    with pytest.raises(UsageError, match=r"release.json cannot be read"):
        store.put(tmp_path)
    damaged = make_release(1)
    (damaged / TRUNK_FILE).write_bytes(b"other")
    with pytest.raises(UsageError, match=r"expected .*damaged, restore it"):
        store.put(damaged)
    (damaged / TRUNK_FILE).unlink()
    with pytest.raises(UsageError, match="No such file"):
        store.put(damaged)
    assert store.names() == []


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, make_release):
    folder = make_release()
    content = json.loads((folder / FILE).read_text())
    content.pop("manifest_sha256")
    content["files"]["../secret"] = "0" * 64
    (folder / FILE).write_text(json.dumps({"manifest_sha256": sha256_of_json(content), **content}))
    with pytest.raises(UsageError, match=r"names files '../secret'"):
        ReleaseStore(str(tmp_path / "store")).put(folder)


def test_an_unknown_scheme_says_what_is_known():
    with pytest.raises(UsageError, match="FACET_RELEASES_URL=nowhere://x cannot be used"):
        ReleaseStore("nowhere://x").names()


def test_a_store_that_is_no_folder_is_worth_another_try(tmp_path, make_release):
    (tmp_path / "store").write_text("a file where a folder was expected")
    with pytest.raises(RetryableError, match="FACET_RELEASES_URL"):
        ReleaseStore(str(tmp_path / "store")).put(make_release())


def test_a_damaged_copy_of_this_host_is_fetched_again(tmp_path, make_release):
    store, folder = ReleaseStore(str(tmp_path / "store")), make_release()
    name = store.put(folder)
    cache = ReleaseCache(tmp_path / "cache", store)
    with cache.open(name) as found:
        (found / TRUNK_FILE).write_bytes(b"flipped")
    with cache.open(name) as found:
        assert contents(found) == contents(folder)
    store.remove(name)
    with cache.open(name) as found:  # a whole copy needs no store
        assert contents(found) == contents(folder)


def test_the_cache_keeps_the_latest_but_none_that_is_being_loaded(tmp_path, make_release):
    store = ReleaseStore(str(tmp_path / "store"))
    names = [store.put(make_release(seed)) for seed in range(MAX_CACHED + 2)]
    cache = ReleaseCache(tmp_path / "cache", store)
    with cache.open(names[0]) as held:
        for name in names[1:]:
            with cache.open(name):
                pass
        assert held.is_dir()
        kept = {path.name for path in cache.folder.iterdir() if path.is_dir()}
        assert kept == {names[0], *names[-MAX_CACHED:]}  # the oldest one stays as long as it is held
    with cache.open(names[-1]):
        pass
    assert len([path for path in cache.folder.iterdir() if path.is_dir()]) == MAX_CACHED
    cache.remove(names[-1])
    assert not (cache.folder / names[-1]).exists()
