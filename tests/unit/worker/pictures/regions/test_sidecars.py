"""Sidecars are named as photo programs name them, and belong to one image."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from worker.pictures.regions.sidecars import images_of, mirrored, new_sidecar, present_sidecar, replace_file


@pytest.fixture
def make(tmp_path):
    def files(*names):
        for name in names:
            (tmp_path / name).touch()
        return tmp_path

    return files


def test_the_whole_name_comes_first(make):
    folder = make("a.jpg", "a.jpg.xmp", "a.xmp")
    assert present_sidecar(folder / "a.jpg") == folder / "a.jpg.xmp"
    assert images_of(folder / "a.jpg.xmp") == [folder / "a.jpg"]


@pytest.mark.parametrize("name", ["a.xmp", "[a]*?.xmp"])
def test_a_stem_names_the_only_image(make, name):
    image = Path(name).with_suffix(".jpg").name
    folder = make(image, name)
    assert present_sidecar(folder / image) == folder / name
    assert images_of(folder / name) == [folder / image]


def test_a_stem_of_two_files_is_the_sidecar_of_none(make):
    folder = make("a.jpg", "a.nef", "a.xmp", "a.b.jpg")
    assert present_sidecar(folder / "a.jpg") is None
    assert new_sidecar(folder / "a.jpg") == folder / "a.jpg.xmp"
    assert images_of(folder / "a.xmp") == [folder / "a.jpg", folder / "a.nef"]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/photos/é/a.jpg", "photos/é/a.jpg"),
        ("s3://bucket/a.jpg", "s3/bucket/a.jpg"),
        ("/a/b.zip!/../../etc/x.jpg", "a/b.zip!/etc/x.jpg"),
        ("/a/./\u202eb.jpg", "a/\\u202eb.jpg"),
    ],
)
def test_an_address_is_mirrored_below_the_folder(place, expected):
    assert mirrored(Path("out"), place) == Path("out") / expected


def test_a_file_is_replaced_whole_and_keeps_its_permissions(tmp_path):
    image = tmp_path / "a.jpg"
    image.write_bytes(b"old")
    image.chmod(0o640)
    os.utime(image, (1, 1))
    replace_file(image, b"new", image)
    assert (image.read_bytes(), stat.S_IMODE(image.stat().st_mode)) == (b"new", 0o640)
    assert image.stat().st_mtime > 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


def test_a_file_that_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    image = tmp_path / "a.jpg"
    image.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(image, b"new")
    assert image.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
