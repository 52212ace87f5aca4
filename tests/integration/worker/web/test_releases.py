"""Releases and the deployment on the page: coverage, comparison, gate, switching, and who may."""

from __future__ import annotations

import time
from urllib.parse import urlencode

import numpy as np
import pytest
from sqlalchemy import text

from worker.storage.crops import CropStore
from worker.web.access.visitor import Role
from worker.web.background import Running

from .conftest import CROP_SIDE

PART = {"HX-Request": "true"}


def send(browser, path, fields, status=200):
    """Send a form of the page; its answer is the list."""
    return browser.post(path, {"back": "/releases"} | fields, status)


@pytest.fixture
def two(people):
    """The archive of some people, and a second release with the same finder and another trunk that covers nothing."""
    other = people.register("<i>new</i>", trunk="other")
    people.session.commit()
    return people.release.release_id, other.release_id


@pytest.fixture(autouse=True)
def nothing_goes_on(desk):
    """Wait for work in the background, which holds tables that the next test empties."""
    yield
    for key in list(desk.background._states):
        wait_for(desk, key)


def wait_for(desk, key):
    until = time.monotonic() + 60
    while isinstance(desk.background.state(key), Running):
        assert time.monotonic() < until
        time.sleep(0.05)
    return desk.background.state(key)


def active(people):
    people.session.rollback()
    return people.session.execute(text("SELECT release_id FROM release WHERE active")).scalar_one()


def test_releases_are_listed_with_their_coverage(two, browser):
    page = browser.get("/releases").text
    assert "&lt;i&gt;new&lt;/i&gt;" in page
    assert "<i>new" not in page
    assert '<span class="state good">active</span>' in page
    assert "0 %" in page


def test_a_release_shows_its_layers_and_history(two, browser):
    page = browser.get(f"/releases/{two[1]}").text
    assert "trunk" in page
    assert "register" in page
    assert "Activate" in page
    browser.get("/releases/999", 404)


def test_two_releases_are_compared_in_the_background(two, people, browser, desk):
    before, after = two
    address = f"/releases/{before}/diff/{after}"
    chosen = browser.client.get(f"/releases/compare?before={before}&after={after}", follow_redirects=False)
    assert (chosen.status_code, chosen.headers["location"]) == (303, address)
    assert "Compare</button>" in browser.get(address).text
    send(browser, address, {})
    wait_for(desk, ("diff", before, after))
    page = browser.get(address).text
    assert "<h2>Faces</h2>" in page
    assert "<h2>People</h2>" in page
    assert "Compare again" in page
    assert "<i>new" not in page
    assert browser.get(address, 204, headers=PART).headers["hx-refresh"] == "true"


def test_the_faces_that_moved_most_have_pictures(two, people, browser, desk, web_settings):
    from dataclasses import replace

    from worker.releases.diff.movers import Mover

    before, after = two
    send(browser, f"/releases/{before}/diff/{after}", {})
    ended = wait_for(desk, ("diff", before, after))
    CropStore(web_settings.crops).write("00/own.png", np.full((2, CROP_SIDE, CROP_SIDE, 3), 99, np.uint8))
    facts = {"head": "gender", "media_id": 1, "at_seconds": 3.0, "uri": "/a/<b>.mp4", "before": "male", "after": "<u>"}
    kept = Mover(face_id=5, crop_uri="00/own.png", crop_index=1, **facts)
    gone = Mover(face_id=6, crop_uri=None, crop_index=None, **facts)
    found = replace(ended.value, movers=(gone, kept))
    desk.background._set(("diff", before, after), replace(ended, value=found))
    page = browser.get(f"/releases/{before}/diff/{after}").text
    assert "face 5, &lt;b&gt;.mp4, 0:03" in page
    assert "<u>" not in page
    picture = browser.get(f"/releases/{before}/diff/{after}/1.jpg?size=224")
    assert picture.headers["content-type"] == "image/jpeg"
    for place in (0, 2, 99):
        browser.get(f"/releases/{before}/diff/{after}/{place}.jpg", 404)


def test_a_comparison_needs_two_releases_that_are_there(two, browser):
    browser.get("/releases/compare?before=1&after=1", 400)
    browser.get("/releases/compare?before=1", 400)
    browser.get("/releases/compare?before=x&after=1", 400)
    browser.get(f"/releases/{two[0]}/diff/999", 404)
    browser.get(f"/releases/{two[0]}/diff/999/0.jpg", 404)


def test_the_gate_holds_a_release_that_covers_nothing(two, people, browser, desk):
    send(browser, f"/releases/{two[1]}/gate", {})
    wait_for(desk, ("gate", two[1]))
    page = browser.get(f"/releases/{two[1]}").text
    assert "The gate holds this release" in page
    assert "coverage" in page
    send(browser, f"/releases/{two[1]}/activate", {"reason": "better"})
    wait_for(desk, "switch")
    assert active(people) == two[0]
    assert "is held back: coverage" in browser.get("/releases").text


def test_a_release_is_forced_with_a_reason_and_rolled_back(two, people, browser, desk, as_role):
    assert "only with a reason" in send(browser, f"/releases/{two[1]}/activate", {"force": "1"}, 400).text
    with as_role(Role.OPERATOR, "ada") as operator:
        send(operator, f"/releases/{two[1]}/activate", {"force": "1", "reason": "an <em>order</em>"})
    wait_for(desk, "switch")
    assert active(people) == two[1]
    page = browser.get(f"/releases/{two[1]}").text
    assert "activate (forced)" in page
    assert "<bdi>ada</bdi>" in page
    assert "an &lt;em&gt;order&lt;/em&gt;" in page
    assert "Roll back" in browser.get("/releases").text
    send(browser, "/releases/rollback", {"reason": "no"})
    wait_for(desk, "switch")
    assert active(people) == two[0]


@pytest.mark.parametrize(
    ("role", "path", "status"),
    [
        (Role.READER, "/releases/{1}/gate", 403),
        (Role.READER, "/releases/{0}/diff/{1}", 403),
        (Role.READER, "/releases/{1}/activate", 403),
        (Role.READER, "/deployment", 403),
        (Role.REVIEWER, "/releases/{1}/activate", 403),
        (Role.REVIEWER, "/releases/rollback", 403),
        (Role.REVIEWER, "/deployment", 403),
        (Role.REVIEWER, "/releases/{0}/diff/{1}", 200),
    ],
)
def test_who_may_do_what(two, people, as_role, role, path, status):
    with as_role(role) as visitor:
        send(visitor, path.format(*two), {"force": "1", "reason": "x"}, status)
        page = visitor.get(f"/releases/{two[1]}").text + visitor.get("/releases").text
        assert "Activate" not in page
        assert "Roll back" not in page
        assert ("/gate" in page) is (role >= Role.REVIEWER)
        visitor.get("/deployment", 403)
        assert "/deployment" not in page
    assert active(people) == two[0]


def test_an_operator_sees_what_doctor_finds(people, browser, desk):
    page = browser.get("/deployment").text
    assert "are checked" in page or "Every check" in page or "something to do" in page
    wait_for(desk, "doctor")
    page = browser.get("/deployment").text
    assert "database" in page
    assert "Check again" in page
    assert browser.get("/deployment", 204, headers=PART).headers["hx-refresh"] == "true"
    send(browser, "/deployment", {})
    wait_for(desk, "doctor")


def test_a_part_shows_that_work_goes_on(two, browser, desk):
    import threading

    go = threading.Event()
    desk.background.start("switch", lambda _: go.wait(20))
    desk.background.start("doctor", lambda _: go.wait(20))
    desk.background.start(("diff", *two), lambda _: go.wait(20))
    for path in ("/releases", f"/releases/{two[1]}", "/deployment", f"/releases/{two[0]}/diff/{two[1]}"):
        part = browser.get(path, headers=PART).text
        assert "<progress" in part
        assert "<html" not in part
    go.set()


def test_what_can_be_searched_is_the_archive_alone(two, browser):
    browser.get(f"/releases/compare?{urlencode({'before': '1; DROP TABLE release', 'after': 2})}", 400)
