"""An S3 server on this machine: what is submitted from it and fetched by a worker gives the same as the local file."""

import hashlib

import pytest

from models.manifest import FILE, TRUNK_FILE
from models.release import DEFAULT
from worker.analysis.decode_pool import DecodePool, UnitDecoded, UnitFrame
from worker.errors import FacetError, MediaUnreachable, RetryableError, UsageError
from worker.ingest import FoundFile, IngestOptions, check_arguments, discover
from worker.ledger.units import LeasedUnit
from worker.storage.fetch_cache import FetchCache
from worker.storage.release_cache import ReleaseCache
from worker.storage.release_store import ReleaseStore
from worker.storage.sources import Sources
from worker.types import DecodeLimits

BUCKET = "media"


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(server, monkeypatch):
    """Yield a client; credentials and address come from the environment, as in a deployment."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    client.close()


def frames(location, sha256, sources, kind="video"):
    """Decode as a worker does; returns numbers, times and hashes of the frames, and what ended them."""
    unit = LeasedUnit(
        unit_id=1, token=1, attempts=1, analysis_id=1, media_id=1, sha256=sha256, location=str(location), kind=kind,
        ordinal=0, start_seconds=None, end_seconds=None, sampling_fps=None,
    )  # fmt: skip
    pool = DecodePool(1, DecodeLimits(), 1 << 24, sources=sources)
    try:
        pool.submit(unit)
        seen = []
        while not isinstance(event := pool.next_event(20), UnitDecoded):
            if isinstance(event, UnitFrame):
                frame = event.frame
                seen.append((frame.index, frame.at_seconds, hashlib.sha256(frame.pixels).hexdigest()))
        return seen, event.error
    finally:
        pool.close()


def test_a_video_in_a_bucket_is_the_video_on_disk(s3, films, tmp_path):
    film = films.make("h264.mp4")
    s3.upload_file(str(film), BUCKET, "archive/1998/film.mp4")
    s3.put_object(Bucket=BUCKET, Key="archive/1998/", Body=b"")  # how some tools mark a folder
    s3.put_object(Bucket=BUCKET, Key="archive/notes.txt", Body=b"text")
    refused, remote = sorted(
        discover([f"s3://{BUCKET}/archive"], IngestOptions(), tmp_path / "a"),
        key=lambda item: isinstance(item, FoundFile),
    )
    (local,) = discover([str(film)], IngestOptions(), tmp_path / "b")
    assert (refused.uri, refused.code) == (f"s3://{BUCKET}/archive/notes.txt", "not_media")
    assert remote.uri == remote.location == f"s3://{BUCKET}/archive/1998/film.mp4"
    assert (remote.sha256, remote.kind, remote.format, remote.byte_size) == (
        local.sha256, local.kind, local.format, local.byte_size,
    )  # fmt: skip

    sources = Sources(cache=FetchCache(tmp_path / "worker", 1 << 24))
    fetched, error = frames(remote.location, remote.sha256, sources)
    assert error is None
    assert len(fetched) == 60
    assert fetched == frames(local.location, local.sha256, sources)[0]


def test_a_bucket_that_cannot_be_read_leaves_the_unit(s3, films, tmp_path):
    s3.upload_file(str(films.make("h264.mp4")), BUCKET, "film.mp4")
    (item,) = discover([f"s3://{BUCKET}/film.mp4"], IngestOptions(), tmp_path / "a")
    sources = Sources(cache=FetchCache(tmp_path / "worker", 1 << 24))
    seen, error = frames("s3://another/film.mp4", item.sha256, sources)
    assert seen == []
    assert isinstance(error, MediaUnreachable)
    assert error.place == "s3://another"
    s3.put_object(Bucket=BUCKET, Key="other.jpg", Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key="film.mp4")
    assert frames(item.location, item.sha256, sources)[1].code == "missing"


def test_wrong_buckets_are_said_before_anything_is_started(s3):
    with pytest.raises(UsageError, match="names nothing"):
        check_arguments(["s3://nowhere/at/all"])
    with pytest.raises(UsageError, match="names nothing"):
        check_arguments([f"s3://{BUCKET}/nothing"])


def test_releases_are_kept_in_a_bucket(s3, tmp_path):
    store = ReleaseStore(f"s3://{BUCKET}/releases")
    assert store.names() == []
    name = store.put(DEFAULT)
    assert store.names() == [name]
    shipped = {path.name: path.read_bytes() for path in DEFAULT.iterdir()}
    assert store.count_bytes(name) == sum(map(len, shipped.values()))
    with ReleaseCache(tmp_path / "cache", store).open(name) as folder:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == shipped

    s3.put_object(Bucket=BUCKET, Key=f"releases/{name}/{TRUNK_FILE}", Body=shipped[TRUNK_FILE][:-1] + b"x")
    with pytest.raises(FacetError, match=r"trunk.safetensors has other bytes"):
        store.download(name, tmp_path / "copy")
    s3.delete_object(Bucket=BUCKET, Key=f"releases/{name}/{FILE}")  # as in an upload that was broken off
    assert store.names() == []
    store.put(DEFAULT)
    s3.delete_object(Bucket=BUCKET, Key=f"releases/{name}/{TRUNK_FILE}")
    with pytest.raises(FacetError, match=r"holds no .*trunk.safetensors"):
        store.download(name, tmp_path / "copy")
    store.remove(name)
    assert s3.list_objects_v2(Bucket=BUCKET).get("Contents", []) == []


def test_a_bucket_that_is_away_is_worth_another_try(s3, tmp_path):
    store = ReleaseStore("s3://another/releases")
    with pytest.raises(RetryableError, match="FACET_RELEASES_URL"):
        store.put(DEFAULT)
