"""The list and the pages of files, without a browser: what they show, and what they escape."""

from __future__ import annotations

import json
import re

import pytest
from sqlalchemy import text

from worker.web.access.visitor import Role

HOSTILE = '/media/"><script>alert(1)</script>\x1b[2J\u202egnp.jpg'


def test_the_list_links_to_files_and_keeps_its_filters(disk, browser):
    page = browser.get("/media").text
    assert page.index('href="/media/3"') < page.index('href="/media/2"') < page.index('href="/media/1"')
    assert "truncated: it ends early" in page
    rejected = browser.get("/media?status=rejected").text
    assert 'href="/media/3"' in rejected
    assert 'href="/media/1"' not in rejected
    assert "<option selected>rejected</option>" in rejected
    assert "without people" in browser.get("/media?empty=1&kind=image").text


@pytest.mark.parametrize("query", ["status=gone", "kind=sound", "job=x", "after=x", "reason=a%20b", "empty=2"])
def test_wrong_filters_are_named(disk, browser, query):
    assert query.partition("=")[0] in browser.get(f"/media?{query}", 400).text


def test_the_next_page_keeps_the_filter(stored, browser):
    with stored.sessions.begin() as session:
        session.execute(
            text("""INSERT INTO media_file (uri, reason)
                    SELECT '/media/' || n || '.xyz', 'not_media: text' FROM generate_series(1, 130) AS n""")
        )
    seen, path = [], "/media?status=rejected"
    for _ in range(3):
        page = browser.get(path).text
        seen += re.findall(r'class="media-name" href="/media/(\d+)"', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert path is None
    assert len(seen) == len(set(seen)) == 131
    assert list(map(int, seen)) == sorted(map(int, seen), reverse=True)


def test_an_empty_archive_and_an_empty_filter_state_what_to_do(archive, browser):
    assert "facet analyze" in browser.get("/media").text
    assert "Show all videos" in browser.get("/media?kind=video").text


def test_a_video_has_a_player_and_a_lane_for_each_person(disk, browser):
    page = browser.get("/media/1").text
    assert '<video class="picture" controls' in page
    assert 'src="/media/1/bytes"' in page
    assert page.count('<div class="lane">') == 4
    assert "Ada" in page
    assert "&lt;b&gt;Bo&lt;/b&gt;" in page
    assert "<b>Bo" not in page
    assert 'data-boxes-at="/media/1/boxes.json"' in page
    assert "Shares of emotions over time" in page
    assert "Youngest, mean and oldest age" in page


def test_a_container_that_no_browser_plays_is_shown_in_single_frames(disk, browser):
    with disk.sessions.begin() as session:
        session.execute(text("UPDATE media_file SET format = 'mpegts' WHERE media_id = 1"))
    page = browser.get("/media/1?at=1.5").text
    assert "<video" not in page
    assert 'src="/media/1/frame?at=1.5&amp;side=960"' in page
    assert "<video" in browser.get("/media/1?view=video").text


def test_boxes_of_a_still_are_where_the_faces_are(disk, browser):
    drawn = re.findall(
        r'<g class="tone-\d"><rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"',
        browser.get("/media/1?view=still&at=1.5").text,
    )
    with disk.sessions() as session:
        rows = session.execute(
            text("""SELECT x1, y1, x2 - x1, y2 - y1 FROM faces
                    WHERE media_id = 1 AND at_seconds = 1.5 AND appearance_id IS NOT NULL""")
        )
        wanted = sorted(tuple(map(float, row)) for row in rows)
    found = sorted(tuple(map(float, one)) for one in drawn)
    assert len(found) == len(wanted) == 3
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, abs=0.1)


def test_boxes_for_the_player(disk, browser):
    found = browser.get("/media/1/boxes.json?from=0&to=60").json()
    assert len(found["tracks"]) >= 9
    for track in found["tracks"]:
        assert len(track["at"]) == len(track["boxes"])
        assert track["at"] == sorted(track["at"])
    labels = {track["label"] for track in found["tracks"]}
    assert {"Ada", "person 2", "<b>Bo</b>", "nobody yet"} == labels
    assert {face["reason"] for face in found["dropped"]} == {"profile"}
    later = browser.get("/media/1/boxes.json?from=600&to=660").json()
    assert later["tracks"] == later["dropped"] == []
    for query in ("from=0&to=1e9", "from=5&to=1", "from=x"):
        browser.get(f"/media/1/boxes.json?{query}", 400)
    browser.get("/media/99/boxes.json", 404)


def test_dropped_faces_are_shown_with_their_reason_when_asked_for(disk, browser):
    page = browser.get("/media/1").text
    assert "Dropped faces" in page
    with disk.sessions() as session:
        at = session.scalar(text("SELECT min(at_seconds) FROM faces WHERE dropped_reason IS NOT NULL"))
    still = f"/media/1?view=still&at={at}"
    assert '<g class="dropped">' not in browser.get(still).text
    assert 'dy="1em">profile</text>' in browser.get(f"{still}&dropped=1").text


def test_strips_of_one_person_differ_from_those_of_all(disk, browser):
    every, one = (re.findall(r"\d+:\d\d: \w+ \d+%", browser.get(f"/media/1?person={who}").text) for who in ("", "1"))
    assert every
    assert one
    assert every != one


def test_an_image_and_a_refused_file(disk, browser):
    image = browser.get("/media/2").text
    assert '<img class="picture" src="/media/2/frame?at=0.0&amp;side=1920" width="1024" height="512"' in image
    assert "No person was found in it" in image
    refused = browser.get("/media/3").text
    assert "rejected: truncated: it ends early" in refused
    assert "data-player" not in refused
    browser.get("/media/99", 404)
    for query in ("at=x", "view=all", "person=0", "dropped=yes", "people=some"):
        browser.get(f"/media/1?{query}", 400)


def test_many_people_are_cut_and_shown_when_asked_for(disk, browser, monkeypatch):
    monkeypatch.setattr("worker.web.pages.media.file.MAX_LANES", 2)
    page = browser.get("/media/1").text
    assert page.count('<div class="lane">') == 2
    assert "2 more people" in page
    assert browser.get("/media/1?people=all").text.count('<div class="lane">') == 4


def test_hostile_names_are_shown_and_do_nothing(disk, browser):
    with disk.sessions.begin() as session:
        session.execute(text("UPDATE media_file SET uri = :uri, title = :uri, camera = :uri"), {"uri": HOSTILE})
        session.execute(text("UPDATE job_item SET uri = :uri"), {"uri": HOSTILE})
        session.execute(text("UPDATE person SET name = :name"), {"name": "<img src=x onerror=alert(1)>\u202e"})
    paths = ("/media", "/media?job=1", "/media/1", "/media/2", "/media/3", "/media/1?view=still")
    for path in (*paths, "/report/media/1", "/report/job/1", "/report/person/1", "/report/job/1?as=file"):
        page = browser.get(path).text
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
        assert "\x1b" not in page, path
        assert "\u202e" not in page, path
    label = browser.get("/media/1/boxes.json?from=0&to=9").json()["tracks"][0]["label"]
    assert label == json.loads(json.dumps("<img src=x onerror=alert(1)>\\u202e"))  # the player sets it as text


def test_a_reader_sees_lists_files_and_reports(disk, as_role):
    with as_role(Role.READER) as reader:
        for path in ("/media", "/media/1", "/media/2", "/media/1/boxes.json", "/report/job/1"):
            reader.get(path)
