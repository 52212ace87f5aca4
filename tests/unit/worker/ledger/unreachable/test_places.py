"""A missing file was deleted, or lies on a disk that this host lacks."""

import os
from pathlib import Path

import pytest

from worker.errors import MediaRejected, MediaUnreachable
from worker.ledger.unreachable.places import UnreachablePlaces
from worker.storage.mounts import require_present
from worker.storage.sources import Sources


@pytest.fixture
def mount(tmp_path):
    (tmp_path / "mount" / "films").mkdir(parents=True)
    (tmp_path / "mount" / "films" / "other.mp4").write_bytes(b"x")
    return tmp_path / "mount"


def test_a_file_that_is_there(mount):
    require_present(str(mount / "films" / "other.mp4"))


def test_a_file_that_was_deleted_from_a_folder_that_is_there(mount):
    with pytest.raises(MediaRejected) as caught:
        require_present(str(mount / "films" / "gone.mp4"))
    assert caught.value.code == "missing"
    assert "deleted" in str(caught.value)


@pytest.mark.parametrize(("roots", "outcome"), [((), "away"), (("mount",), "missing")])
def test_a_folder_that_was_deleted_is_told_from_a_mount_by_the_roots(mount, roots, outcome):
    with pytest.raises((MediaRejected, MediaUnreachable)) as caught:
        require_present(str(mount / "photos" / "1.jpg"), [str(mount.parent / root) for root in roots])
    assert caught.value.code == outcome


def test_a_mount_that_is_not_there(tmp_path):
    (tmp_path / "something").touch()
    with pytest.raises(MediaUnreachable) as caught:
        require_present(str(tmp_path / "nas" / "films" / "a.mp4"))
    assert caught.value.place == str(tmp_path / "nas")
    assert "mount it here" in str(caught.value)


def test_an_empty_folder_is_taken_for_one_where_nothing_is_mounted(tmp_path):
    (tmp_path / "nas").mkdir()
    with pytest.raises(MediaUnreachable) as caught:
        require_present(str(tmp_path / "nas" / "a.mp4"), [str(tmp_path / "nas")])
    assert caught.value.place == str(tmp_path / "nas")


def test_a_staged_copy_is_on_the_host_that_made_it(tmp_path):
    folder = tmp_path / "staging" / "ab"
    folder.mkdir(parents=True)
    (folder / "another").touch()
    with pytest.raises(MediaUnreachable) as caught:
        require_present(f"{folder}/ab{'0' * 62}.jpg")
    assert caught.value.place == str(tmp_path / "staging")


def test_a_disk_that_fails_is_not_the_files_fault(mount, monkeypatch):
    def stale(*_, **__):
        raise OSError(116, os.strerror(116))

    monkeypatch.setattr("pathlib.Path.stat", stale)
    with pytest.raises(MediaUnreachable, match="Stale"):
        require_present(str(mount / "films" / "other.mp4"))


def test_a_disk_that_goes_away_in_the_middle_is_not_the_files_fault(mount):
    path = mount / "films" / "other.mp4"

    def read():
        with Sources().open_local(str(path)):
            path.unlink()
            path.parent.rmdir()
            mount.rmdir()
            raise MediaRejected("corrupt", "the reader met the end")

    with pytest.raises(MediaUnreachable):
        read()


def test_a_host_opens_nothing_outside_of_its_roots(mount, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.jpg").touch()
    (mount / "link.jpg").symlink_to(tmp_path / "secret" / "a.jpg")
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "copy.jpg").touch()
    sources = Sources(roots=(str(mount),), staging=tmp_path / "staging")
    for path in (tmp_path / "secret" / "a.jpg", mount / "link.jpg", mount / ".." / "secret" / "a.jpg"):
        with pytest.raises(MediaUnreachable, match="FACET_MEDIA_ROOTS") as caught, sources.open_local(str(path)):
            pass
        assert caught.value.place == str(tmp_path / "secret")
    for path in (mount / "films" / "other.mp4", tmp_path / "staging" / "copy.jpg"):
        with sources.open_local(str(path)) as lent:
            assert Path(lent).samefile(path)


def test_a_place_is_avoided_for_a_while_and_told_once(monkeypatch, caplog):
    unreachable = UnreachablePlaces()
    away = MediaUnreachable("/nas", "/nas is not there on this host")
    now = [100.0]
    monkeypatch.setattr("worker.ledger.unreachable.places.time.monotonic", lambda: now[0])
    unreachable.note(1, away)
    unreachable.note(2, away)
    assert unreachable.places() == ["/nas"]
    now[0] += 61
    assert unreachable.places() == []
    unreachable.note(3, away)
    assert [record.getMessage() for record in caplog.records] == [
        "unit 1 and others are left to another host: /nas is not there on this host"
    ]
    assert caplog.records[0].place == "/nas"
