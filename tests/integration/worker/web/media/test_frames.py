"""Single frames: decoded in a child, at the time that was asked for, and refused where the file is at fault."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from worker.web.pages.media import stills
from worker.web.pages.media.stills import Stills


@pytest.fixture(autouse=True)
def own_stills(monkeypatch):
    """Pictures of one test are no pictures of the next."""
    own = Stills()
    monkeypatch.setattr("worker.web.pages.media.content.STILLS", own)
    yield own
    own.close()


def shown(response):
    assert response.headers["content-type"] == "image/jpeg"
    return Image.open(io.BytesIO(response.content)).convert("RGB")


def decoded(path, at_seconds):
    """The first frame at or after a time, by PyAV alone."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time >= at_seconds - 1e-3:
                return frame.time, frame.to_image()
    raise AssertionError(at_seconds)


@pytest.mark.parametrize("at_seconds", [0, 1.5, 3.02, 7.3])
def test_a_frame_of_a_video_is_the_one_at_its_time(disk, browser, at_seconds):
    response = browser.get(f"/media/1/frame?at={at_seconds}")
    at, wanted = decoded(disk.video, at_seconds)
    assert float(response.headers["x-at-seconds"]) == pytest.approx(at, abs=1e-3)
    found = shown(response)
    assert found.size == wanted.size
    assert np.abs(np.asarray(found, float) - np.asarray(wanted, float)).mean() < 6


def test_behind_the_end_the_last_frame_is_shown(disk, browser):
    response = browser.get("/media/1/frame?at=500")
    assert 7.8 < float(response.headers["x-at-seconds"]) < 8


def test_an_image_is_shown_at_the_size_that_was_asked_for(disk, browser):
    assert shown(browser.get("/media/2/frame?side=1920")).size == (1024, 512)
    assert shown(browser.get("/media/2/frame?side=480")).size == (480, 240)


def test_no_codec_runs_in_the_process_of_the_page(disk, browser, monkeypatch):
    def refused(*_args, **_options):
        raise AssertionError("decoded in the process of the page")

    monkeypatch.setattr(Image, "open", refused)
    monkeypatch.setattr(av, "open", refused)
    assert browser.get("/media/2/frame").content.startswith(b"\xff\xd8")
    assert browser.get("/media/1/frame?at=2").content.startswith(b"\xff\xd8")


def test_a_picture_is_decoded_once_and_known_by_its_tag(disk, browser, own_stills, monkeypatch):
    tag = browser.get("/media/2/frame").headers["etag"]
    monkeypatch.setattr(own_stills, "_decode", None)
    assert browser.get("/media/2/frame").headers["etag"] == tag
    browser.get("/media/2/frame", 304, headers={"if-none-match": tag})


def test_a_damaged_file_has_its_reason_in_place_of_a_picture(disk, browser):
    disk.image.write_bytes(b"\xff\xd8\xff\xe0" + b"<script>" * 100)
    disk.put(2, disk.image)
    response = browser.get("/media/2/frame", 404)
    assert response.headers["content-type"] == "image/svg+xml"
    assert "<script>" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


def test_an_image_that_was_replaced_is_not_shown(disk, browser, photos):
    data = bytearray(disk.image.read_bytes())
    data[-3] ^= 1
    disk.image.write_bytes(data)  # of the same size
    assert "submit it again" in browser.get("/media/2/frame", 404).text


@pytest.mark.parametrize("query", ["at=-1", "at=x", "at=nan", "at=inf", "side=99999", "side=x"])
def test_wrong_values_are_named(disk, browser, query):
    name = query.partition("=")[0]
    assert name in browser.get(f"/media/1/frame?{query}", 400).text


def test_too_many_requests_for_pictures_are_refused(disk, browser, own_stills, monkeypatch):
    for _ in range(stills.MAX_WAITING_STILLS):
        assert own_stills._room.acquire(blocking=False)
    browser.get("/media/2/frame", 503)
    for _ in range(stills.MAX_WAITING_STILLS):
        own_stills._room.release()
    browser.get("/media/2/frame")


def test_few_pictures_are_kept(disk, browser, own_stills, monkeypatch):
    monkeypatch.setattr(stills, "MAX_KEPT", 2)
    for at in (0, 1, 2, 3):
        browser.get(f"/media/1/frame?at={at}&side=480")
    assert len(own_stills._kept) == 2
