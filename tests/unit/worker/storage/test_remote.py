"""Files at URLs: what is there is told as for folders, and what is read has the same hash and rows."""

import io
import zipfile
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from worker.errors import MediaRejected, MediaUnreachable, UsageError
from worker.ingest import IngestOptions, check_arguments, discover
from worker.ledger.submission.prober import FileProber, expected_of
from worker.storage.fetch_cache import FetchCache
from worker.storage.remote import RemoteFile, describe, is_url, list_remote_files, local_path, read_chunks
from worker.storage.roots import within
from worker.storage.sources import Sources


def jpeg(number):
    out = io.BytesIO()
    Image.new("RGB", (8 + number, 8)).save(out, "JPEG")
    return out.getvalue()


def archive():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("in.jpg", jpeg(7))
    return out.getvalue()


FILES = {"a/2.jpg": jpeg(2), "a/1.txt": b"text", "c.zip": archive(), "b.jpg": jpeg(3), "empty.jpg": b""}


@pytest.fixture
def bucket(tmp_path):
    """The same files in a store and in a folder."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    for name, data in FILES.items():
        fs.pipe_file(f"/bucket/{name}", data)
        path = tmp_path / "bucket" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    yield fs
    fs.store.clear()


def found(tmp_path, *paths, **options):
    return list(discover(paths, IngestOptions(**options), tmp_path / "staging"))


def told(items, base):
    return [
        (item.uri.removeprefix(base), getattr(item, "sha256", None), getattr(item, "code", "found"), item.byte_size)
        for item in items
    ]


def test_a_bucket_is_read_as_a_folder_is(bucket, tmp_path):
    remote = found(tmp_path, "memory://bucket")
    local = found(tmp_path, str(tmp_path / "bucket"))
    by_url = found(tmp_path, f"file://{tmp_path}/bucket")
    assert told(remote, "memory:///bucket") == told(local, str(tmp_path / "bucket"))
    assert by_url == local
    assert [item.location for item in remote if item.uri.endswith("b.jpg")] == ["memory:///bucket/b.jpg"]
    assert len(FetchCache(tmp_path / "staging", 1 << 30).names()) == 3, "what is no media is not fetched"


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("memory://bucket/b.jpg", ["b.jpg"]),
        ("memory://bucket/*.jpg", ["b.jpg", "empty.jpg"]),
        ("memory://bucket/a", ["1.txt", "2.jpg"]),
    ],
)
def test_what_a_url_may_name(bucket, url, names):
    assert [file.url.rpartition("/")[2] for file in list_remote_files(url)] == names


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("memory://nothing", "names nothing"),
        ("memory://bucket/*.png", "no files"),
        ("nonsense://bucket", "no scheme"),
        ("simplecache::memory://bucket", "chain"),
        ("s3://key:s3cr3t@bucket/a", "carries credentials"),
        ("https://host/a?token=s3cr3t", "carries credentials"),
        ("file://elsewhere/a", "expected file:///path"),
    ],
)
def test_wrong_urls_are_said_at_once_and_without_their_secrets(bucket, url, word):
    with pytest.raises(UsageError, match=word) as caught:
        check_arguments([url])
    assert "s3cr3t" not in str(caught.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("worker.storage.remote.fsspec.core.url_to_fs", missing)
    with pytest.raises(UsageError, match=r"facet\[s3\]"):
        check_arguments(["s3://bucket/a"])
    with pytest.raises(MediaUnreachable, match=r"facet\[s3\]"):
        describe("s3://bucket/a")


def test_a_listing_is_bounded(bucket):
    with pytest.raises(UsageError, match="more than 3 files"):
        list(list_remote_files("memory://bucket", most=3))


def test_a_file_beyond_the_budget_is_refused_and_the_others_kept(bucket, tmp_path):
    items = found(tmp_path, "memory://bucket", cache_bytes=len(jpeg(3)))
    assert {item.uri.rpartition("/")[2]: getattr(item, "code", "found") for item in items} == {
        "1.txt": "not_media",
        "2.jpg": "found",
        "b.jpg": "found",
        "c.zip": "too_large",
        "empty.jpg": "empty",
    }


def test_only_below_the_roots(bucket, tmp_path):
    assert len(found(tmp_path, "memory:///bucket/a", roots=("memory:///bucket/a",))) == 2
    for path in ("memory:///bucket", "memory:///bucket/b.jpg", str(tmp_path)):
        with pytest.raises(UsageError, match="outside of what may be read"):
            found(tmp_path, path, roots=("memory:///bucket/a",))
    assert not within("s3://bucket-2/a", ("s3://bucket",))
    assert not within("s3://bucket/a/../b", ("s3://bucket/a",))
    assert within("s3://bucket/a", ("/media", "s3://bucket/"))


def test_a_worker_fetches_and_the_copy_goes_when_nobody_waits_for_it(bucket, tmp_path):
    sources = Sources(cache=FetchCache(tmp_path / "staging", 1 << 20))
    (item,) = found(tmp_path, "memory://bucket/b.jpg")
    with sources.open_local(item.location, expected_of(item)) as path:
        assert Path(path).read_bytes() == FILES["b.jpg"]
    sources.clear()
    assert sources.cache.names() == []


def test_what_became_of_a_file_since(bucket, tmp_path):
    sources = Sources(cache=FetchCache(tmp_path / "staging", 1 << 20))
    (item,) = found(tmp_path, "memory://bucket/b.jpg")
    sources.clear()

    def code():
        with (
            pytest.raises((MediaRejected, MediaUnreachable)) as caught,
            sources.open_local(item.location, expected_of(item)),
        ):
            pass
        return caught.value.code

    bucket.pipe_file("/bucket/b.jpg", jpeg(4))
    assert code() == "changed"
    bucket.rm_file("/bucket/b.jpg")
    assert code() == "missing"
    bucket.store.clear()
    bucket.pseudo_dirs[:] = [""]
    assert code() == "away", "a store that holds nothing may be another one"
    with (
        pytest.raises(MediaUnreachable, match="FACET_MEDIA_ROOTS"),
        Sources(roots=("/media",), cache=sources.cache).open_local(item.location),
    ):
        pass


def test_a_file_of_another_length_than_listed(bucket):
    for size in (1, 10_000):
        with pytest.raises(MediaRejected, match="as long as"):
            list(read_chunks(RemoteFile("memory://bucket/b.jpg", size)))


def test_a_video_is_probed_from_the_copy_that_was_fetched(bucket, tmp_path):
    class Decoder:
        def probe(self, path, kind):
            return path

    bucket.pipe_file("/bucket/film.mp4", b"\0\0\0\x18ftypisom" + bytes(100))
    sources = Sources(cache=FetchCache(tmp_path / "staging", 1 << 20))
    prober = FileProber(Decoder(), sources)
    (item,) = prober.remember(found(tmp_path, "memory://bucket/film.mp4"))
    bucket.rm_file("/bucket/film.mp4")
    assert prober.probe(item.location, "video").endswith(f"{item.sha256}.remote")
    (tmp_path / "film.mp4").touch()
    assert Path(prober.probe(str(tmp_path / "film.mp4"), "video")).parent == Path("/proc/self/fd")


def test_words():
    assert [is_url(one) for one in ("s3://b/a", "/a", "file:///a", "a:b")] == [True, False, False, False]
    assert local_path("file:///a%20b") == "/a b"
