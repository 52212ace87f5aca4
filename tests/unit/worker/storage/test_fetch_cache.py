"""Fetched copies: named by content, fetched once, within a budget, never taken from a reader."""

import fcntl
import hashlib
import threading
import time

import pytest

from worker.errors import MediaRejected, RetryableError
from worker.storage.fetch_cache import FetchCache, Transfer


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Store:
    """Counts how often each file is fetched."""

    def __init__(self):
        self.fetched = []

    def __call__(self, data, size=None):
        def fetch():
            self.fetched.append(data)
            return Transfer(len(data) if size is None else size, [data[:3], data[3:]])

        return fetch


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def cache(tmp_path):
    return FetchCache(tmp_path / "staging", 100)


def copies(cache):
    return sorted(
        path.name for path in cache._folder.rglob("*") if path.is_file() and not path.name.startswith(".lock")
    )


def test_a_copy_is_named_by_content_and_fetched_once(cache, store):
    for _ in range(2):
        with cache.open_copy(store(b"a film"), sha(b"a film")) as copy:
            assert copy.path.read_bytes() == b"a film"
            assert copy.path.name == f"{copy.sha256}.remote"
            assert copy.sha256 == sha(b"a film")
    assert store.fetched == [b"a film"]
    assert cache.names() == [sha(b"a film")]


def test_readers_of_one_video_fetch_it_once(cache, store):
    def slow():
        time.sleep(0.1)
        return store(b"film")()

    def read():
        with cache.open_copy(slow, sha(b"film")):
            time.sleep(0.05)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.fetched == [b"film"]


def test_other_bytes_than_were_submitted_are_refused(cache, store):
    with pytest.raises(MediaRejected) as caught, cache.open_copy(store(b"new"), sha(b"old")):
        pass
    assert caught.value.code == "changed"
    assert copies(cache) == []


def test_a_file_larger_than_the_budget_is_refused_unfetched(cache, store):
    with pytest.raises(MediaRejected) as caught, cache.open_copy(store(b"", size=101)):
        pass
    assert caught.value.code == "too_large"


def test_the_oldest_copies_go_when_room_is_needed_but_none_that_is_read(cache, store):
    first, second, third = (bytes([n]) * 40 for n in range(3))
    with cache.open_copy(store(first)) as read:
        with cache.open_copy(store(second)):
            pass
        with cache.open_copy(store(third)):
            assert read.path.read_bytes() == first
    assert cache.names() == [sha(first), sha(third)] or set(cache.names()) == {sha(first), sha(third)}
    cache.remove(cache.names())
    assert copies(cache) == []


def test_a_reader_keeps_its_copy_from_being_removed(cache, store):
    with cache.open_copy(store(b"kept")) as copy:
        cache.remove([copy.sha256])
        assert copy.path.exists()
    cache.remove([copy.sha256])
    assert not copy.path.exists()


def test_what_a_killed_process_left_is_removed_and_what_others_fetch_is_counted(cache, store):
    cache._folder.mkdir()
    (cache._folder / ".fetching-dead").write_bytes(bytes(90))
    with cache.open_copy(store(bytes(50))):
        assert not (cache._folder / ".fetching-dead").exists()
    other = cache._folder / ".fetching-other"
    other.write_bytes(bytes(60))
    with other.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with cache.open_copy(store(b"x" * 40)):
            assert cache.names() == [sha(b"x" * 40)]


def test_a_fetch_that_breaks_off_leaves_nothing(cache):
    def broken():
        yield b"half"
        raise MediaRejected("changed", "shorter than listed")

    with pytest.raises(MediaRejected), cache.open_copy(lambda: Transfer(10, broken())):
        pass
    assert copies(cache) == []


def test_no_room_for_ever_is_said(cache, store, monkeypatch):
    monkeypatch.setattr("worker.storage.fetch_cache.MAX_WAIT_SECONDS", 0.0)
    with (
        cache.open_copy(store(bytes(60))),
        pytest.raises(RetryableError, match="FACET_CACHE_BYTES"),
        cache.open_copy(store(b"1" * 60)),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_the_disks_fault(tmp_path, store):
    (tmp_path / "file").touch()
    with pytest.raises(RetryableError), FetchCache(tmp_path / "file" / "staging", 9).open_copy(store(b"x")):
        pass
