"""The bytes of a file in ranges: for players, and for nobody who may not have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import text

from worker.web.access.doors import ProxyDoor
from worker.web.access.visitor import Role

BYTES = "/media/1/bytes"


def test_the_whole_file(disk, browser):
    response = browser.get(BYTES)
    assert response.content == disk.video.read_bytes()
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    assert browser.get("/media/2/bytes").headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("asked", "part"), [("0-99", slice(0, 100)), ("500-", slice(500, None)), ("-77", slice(-77, None))]
)
def test_a_range(disk, browser, asked, part):
    data = disk.video.read_bytes()
    response = browser.get(BYTES, 206, headers={"range": f"bytes={asked}"})
    assert response.content == data[part]
    start = part.indices(len(data))[0]
    assert response.headers["content-range"] == f"bytes {start}-{start + len(response.content) - 1}/{len(data)}"
    assert int(response.headers["content-length"]) == len(response.content)


def test_a_range_behind_the_end(disk, browser):
    size = disk.video.stat().st_size
    response = browser.get(BYTES, 416, headers={"range": f"bytes={size}-"})
    assert response.headers["content-range"] == f"bytes */{size}"
    assert response.content == b""


def test_a_range_that_is_none_gives_the_whole_file(disk, browser):
    for asked in ("bytes=5-1", "bytes=0-1,5-6", "seconds=0-1"):
        assert len(browser.get(BYTES, 200, headers={"range": asked}).content) == disk.video.stat().st_size


def test_a_range_is_for_the_same_bytes_alone(disk, browser):
    tag = browser.get(BYTES, 206, headers={"range": "bytes=0-0"}).headers["etag"]
    assert not tag.startswith("W/")
    browser.get(BYTES, 206, headers={"range": "bytes=0-0", "if-range": tag})
    other = browser.get(BYTES, 200, headers={"range": "bytes=0-0", "if-range": '"another"'})
    assert len(other.content) == disk.video.stat().st_size
    assert browser.get(BYTES, 304, headers={"if-none-match": tag}).content == b""
    os.utime(disk.video, (1, 1))
    assert browser.get(BYTES, 206, headers={"range": "bytes=0-0"}).headers["etag"] != tag


def test_a_head_request_opens_the_file_and_sends_none_of_it(disk, browser):
    response = browser.client.head(BYTES, headers={"range": "bytes=0-9"})
    assert (response.status_code, response.content) == (206, b"")
    assert response.headers["content-length"] == "10"


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_file_stays_open(disk, browser):
    browser.get(BYTES)  # opens connections to the database
    before = open_files()
    for headers in ({}, {"range": "bytes=0-9"}, {"range": "bytes=99999999-"}, {"if-none-match": "x"}):
        browser.client.get(BYTES, headers=headers)
        browser.client.head(BYTES, headers=headers)
    assert open_files() == before


def test_a_file_outside_of_the_roots_is_not_shown(disk, browser, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(disk.video.read_bytes())
    disk.put(1, secret)
    assert "FACET_MEDIA_ROOTS" in browser.get(BYTES, 404).text
    assert "FACET_MEDIA_ROOTS" in browser.get("/media/1/frame", 404).text


def test_a_link_that_leads_out_of_the_roots_is_not_followed(disk, browser, tmp_path):
    secret = tmp_path / "secret.mp4"
    disk.video.rename(secret)
    disk.video.symlink_to(secret)
    browser.get(BYTES, 404)
    browser.get("/media/1/frame", 404)


def test_a_path_with_steps_upwards_is_not_followed(disk, browser, tmp_path):
    (tmp_path / "secret.mp4").write_bytes(disk.video.read_bytes())
    with disk.sessions.begin() as session:
        session.execute(
            text("UPDATE media_file SET location = :path WHERE media_id = 1"),
            {"path": f"{disk.folder}/../secret.mp4"},
        )
    browser.get(BYTES, 404)


@pytest.mark.parametrize("path", ["/dev/zero", "/etc", "/proc/self/mem"])
def test_devices_and_folders_are_not_opened(disk, browser, path):
    with disk.sessions.begin() as session:
        session.execute(text("UPDATE media_file SET location = :path WHERE media_id = 1"), {"path": path})
    browser.get(BYTES, 404)


def test_a_file_that_changed_is_not_shown_with_boxes_of_another(disk, browser):
    with disk.video.open("ab") as file:
        file.write(b"more")
    assert "submit it again" in browser.get(BYTES, 404).text


def test_files_that_are_gone_refused_or_unknown(disk, browser):
    disk.video.unlink()
    for path in (BYTES, "/media/3/bytes", "/media/99/bytes", "/media/-1/bytes", "/media/x/bytes"):
        browser.get(path, 404)


def test_a_stranger_gets_no_byte(disk, stranger):
    for path in (BYTES, "/media/1/frame", "/media/1/boxes.json", "/media/1", "/media", "/report/media/1"):
        response = stranger.get(path)
        assert response.status_code == 401
        assert b"ftyp" not in response.content


def test_a_reader_may_look(disk, as_role):
    with as_role(Role.READER) as reader:
        assert reader.get(BYTES, 206, headers={"range": "bytes=0-9"}).content == disk.video.read_bytes()[:10]


def test_without_roots_several_users_get_no_file(disk, as_role, desk, monkeypatch):
    monkeypatch.setattr(type(desk), "settings", desk.settings.model_copy(update={"media_roots": ()}))
    with as_role(Role.OPERATOR) as operator:
        assert isinstance(operator.client.app.state.door, ProxyDoor)
        assert "FACET_MEDIA_ROOTS" in operator.get(BYTES, 404).text
        operator.get("/media/1/frame", 404)
