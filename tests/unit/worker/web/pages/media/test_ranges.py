"""Ranges of bytes: every form of the header, and files that are closed."""

from __future__ import annotations

import os

import pytest

from worker.web.pages.media.ranges import PIECE_BYTES, ByteRange, OpenedBytes, RangeNotSatisfiable, read_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-", ByteRange(0, 1000)),
        ("bytes=10-19", ByteRange(10, 10)),
        ("bytes=990-5000", ByteRange(990, 10)),
        ("bytes=999-", ByteRange(999, 1)),
        ("bytes=-1", ByteRange(999, 1)),
        ("bytes=-300", ByteRange(700, 300)),
        ("bytes=-5000", ByteRange(0, 1000)),
        (" Bytes = 5 - 6 ", ByteRange(5, 2)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=9-3", None),
        ("bytes=0-1,4-5", None),
        ("items=0-5", None),
        ("bytes=0x1-2", None),
        ("bytes=1-2-3", None),
        (f"bytes={'9' * 30}-", None),
    ],
)
def test_a_range_is_read(header, expected):
    assert read_range(header, 1000) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=1000-", 1000), ("bytes=-0", 1000), ("bytes=0-", 0)])
def test_a_range_behind_the_end_is_refused(header, size):
    with pytest.raises(RangeNotSatisfiable):
        read_range(header, size)


def test_a_range_names_its_place():
    assert ByteRange(10, 5).header(1000) == "bytes 10-14/1000"


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture
def opened(tmp_path):
    data = os.urandom(2 * PIECE_BYTES + 77)
    (tmp_path / "film.mp4").write_bytes(data)
    return data, os.open(tmp_path / "film.mp4", os.O_RDONLY)


def test_bytes_come_in_pieces_and_the_file_is_closed_at_the_end(opened):
    data, descriptor = opened
    pieces = list(OpenedBytes(descriptor, ByteRange(5, len(data) - 9)))
    assert b"".join(pieces) == data[5:-4]
    assert len(pieces) == 3
    assert not is_open(descriptor)


def test_a_reader_that_leaves_closes_the_file(opened):
    _, descriptor = opened
    body = OpenedBytes(descriptor, ByteRange(0, 10))
    assert is_open(descriptor)
    del body
    assert not is_open(descriptor)


def test_a_file_that_shrinks_ends_early(opened, tmp_path):
    data, descriptor = opened
    body = OpenedBytes(descriptor, ByteRange(0, len(data)))
    next(body)
    os.truncate(tmp_path / "film.mp4", PIECE_BYTES + 3)
    assert list(body) == [data[PIECE_BYTES : PIECE_BYTES + 3]]
