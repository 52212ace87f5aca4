import hashlib
import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from worker.errors import UsageError
from worker.ingest import FoundFile, IngestOptions, RefusedFile, check_arguments, discover


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "archive"
    (folder / "b" / "deep").mkdir(parents=True)
    for number, name in enumerate(("c.jpg", "b/deep/x.txt", "b/a.png", "a.mp4")):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(folder / name, "JPEG")
    return folder


@pytest.fixture
def found(tmp_path):
    def found(*paths, **options):
        return list(discover([str(path) for path in paths], IngestOptions(**options), tmp_path / "staging"))

    return found


def by_name(items):
    return {Path(item.uri).name: getattr(item, "code", "found") for item in items}


def test_a_folder_is_walked_in_order_and_by_content(folder, found):
    items = found(folder)
    assert [item.uri for item in items] == [
        str(folder / name) for name in ("a.mp4", "b/a.png", "b/deep/x.txt", "c.jpg")
    ]
    for item in items:
        assert (item.kind, item.format) == ("image", "jpeg")
        assert str(item.location) == item.uri
        assert item.sha256 == hashlib.sha256(item.location.read_bytes()).hexdigest()
        assert item.byte_size == item.location.stat().st_size
    assert found(folder) == items


def test_nothing_vanishes(folder, found):
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("hello")
    (folder / "to_c.jpg").symlink_to(folder / "c.jpg")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        where = Path.cwd()
        os.chdir(folder)  # the path of a socket may have 108 bytes only
        listening.bind("socket")
        os.chdir(where)
        reasons = by_name(found(folder))
    assert reasons == {
        ".DS_Store": "sidecar",
        "Thumbs.db": "sidecar",
        "empty.jpg": "empty",
        "notes.txt": "not_media",
        "to_c.jpg": "link",
        "loop": "link",
        "pipe": "special_file",
        "socket": "special_file" if "socket" in reasons and reasons["socket"] == "special_file" else "unreadable",
        "a.mp4": "found",
        "a.png": "found",
        "x.txt": "found",
        "c.jpg": "found",
    }


def test_links_are_followed_where_the_user_names_them(folder, found, tmp_path):
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    (tmp_path / "one.jpg").symlink_to(folder / "c.jpg")
    assert len(found(tmp_path / "link")) == 4
    (item,) = found(tmp_path / "one.jpg")
    assert isinstance(item, FoundFile)
    assert item.uri == str(tmp_path / "one.jpg")


def test_patterns(folder, found):
    assert [Path(item.uri).name for item in found(folder / "*.jpg")] == ["c.jpg"]
    assert len(found(folder / "**" / "*.*")) == 4
    odd = folder / "a[1].jpg"
    Image.new("RGB", (8, 8)).save(odd)
    assert [item.uri for item in found(odd)] == [str(odd)]


def test_a_file_named_twice_is_told_twice(folder, found):
    assert len(found(folder / "c.jpg", folder / "c.jpg")) == 2


def test_what_is_not_there_is_said_at_once(folder, tmp_path):
    (tmp_path / "hollow" / "er").mkdir(parents=True)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for argument, words in {
        "nowhere": "does not exist",
        "*.gif": "matches nothing",
        "hollow": "no files in",
        "broken": "link",
    }.items():
        with pytest.raises(UsageError, match=words) as caught:
            check_arguments([str(folder), str(tmp_path / argument)])
        assert "\n" not in str(caught.value)
        with pytest.raises(UsageError, match=words):
            discover([str(tmp_path / argument)], IngestOptions(), tmp_path / "staging")


def test_a_relative_path_becomes_an_absolute_one(folder, found, monkeypatch):
    monkeypatch.chdir(folder)
    (item,) = found("c.jpg")
    assert item.uri == str(folder / "c.jpg")
    assert item.location.is_absolute()


def test_unreadable_files_and_folders_are_named(folder, found, monkeypatch):
    import worker.ingest.walk as module

    opened, listed = os.open, os.scandir

    def no_open(path, *rest, **options):
        if str(path).endswith("c.jpg"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **options)

    def no_list(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(module.os, "open", no_open)
    monkeypatch.setattr(module.os, "scandir", no_list)
    items = found(folder)
    assert {Path(item.uri).name for item in items if isinstance(item, RefusedFile)} == {"c.jpg", "deep"}
    assert {item.code for item in items if isinstance(item, RefusedFile)} == {"no_permission"}


def test_only_below_the_roots(folder, found, tmp_path):
    assert len(found(folder, roots=(str(tmp_path),))) == 4
    with pytest.raises(UsageError, match="outside"):
        found(folder, roots=(str(tmp_path / "archive" / "b"),))
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(folder)
    with pytest.raises(UsageError, match="outside"):
        found(tmp_path / "inside" / "link", roots=(str(tmp_path / "inside"),))


def test_names_that_are_no_text_can_be_stored_and_opened(folder, found):
    path = folder / os.fsdecode(b"caf\xe9.jpg")
    Image.new("RGB", (8, 8)).save(path)
    (item,) = found(path)
    item.uri.encode()
    str(item.location).encode()
    assert item.uri.endswith("caf\\xe9.jpg")
    assert item.location.read_bytes() == path.read_bytes()


def test_a_deep_tree_does_not_exhaust_the_stack(tmp_path, found):
    where = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(700):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.txt").write_text("deep")
    finally:
        os.chdir(where)
    (item,) = found(tmp_path / "d")
    assert item.code == "not_media"
