"""Reports: what they count, that they need nothing else, and how the command names what is wrong."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image
from sqlalchemy import text

from worker.errors import UsageError
from worker.storage.crops import CropStore
from worker.web.pages.report.reading import read_report
from worker.web.pages.report.writing import link_to_file, write_report
from worker.web.queries.report.people import Moment
from worker.web.queries.report.scope import ReportScope


class Addresses(HTMLParser):
    """Every address that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, name, value) for name, value in attrs if name in {"src", "href", "action", "data"}]


def addresses(html):
    parser = Addresses()
    parser.feed(html)
    return parser.found


def test_a_job_counts_what_was_analysed_and_what_not(disk, reader):
    found = read_report(reader, ReportScope("job", 1))
    assert {(one.kind, one.status, one.files) for one in found.outcomes} == {
        ("video", "done", 1),
        ("image", "done", 1),
        (None, "rejected", 1),
    }
    assert (found.files, found.analysed, found.seconds, found.faces) == (3, 2, 8, 120)
    assert [(one.reason, one.count) for one in found.reasons] == [("truncated", 1)]
    assert [one.uri for one in found.failures] == ["/media/half.jpg"]
    (dropped,) = found.dropped
    assert (dropped.reason, dropped.count) == ("profile", sum(n % 9 == 4 for n in range(21)) * 5 + 2)
    assert found.counts.people == len(found.people) == 3
    assert found.counts.unassigned == 1
    assert found.counts.appearances == len(found.moments)
    assert found.release.name == "test"
    assert found.groups == ()


def test_a_large_job_is_reported_up_to_a_file_and_says_so(disk, reader, browser, monkeypatch):
    whole = read_report(reader, ReportScope("job", 1))
    items = reader.execute(text("SELECT item_no, kind FROM files WHERE job_id = 1 ORDER BY item_no")).all()
    monkeypatch.setattr("worker.web.queries.report.scope.MAX_REPORTED_FILES", items[0].item_no)  # the video alone
    found = read_report(reader, ReportScope("job", 1))
    assert [(one.kind, one.files) for one in found.outcomes] == [("video", 1)]
    assert (found.left_out, whole.left_out) == (9 - items[0].item_no, 0)
    assert (found.reasons, found.failures) == ((), ())
    assert found.counts.appearances == whole.counts.appearances  # all are in the video
    page = browser.get("/report/job/1").text
    assert "This report is about the first 1 file of the job." in page
    assert f"{found.left_out} later files are left out" in page


def test_a_small_job_leaves_nothing_out(disk, browser):
    assert "left out of everything" not in browser.get("/report/job/1").text


def test_time_in_view_and_emotions_are_those_of_the_views(disk, reader):
    found = read_report(reader, ReportScope("media", 1))
    whole = reader.execute(text("SELECT sum(screen_seconds) FROM appearances")).scalar_one()
    assert sum(one.seconds for bar in found.screen for _, one, _ in bar.parts) == pytest.approx(whole)
    assert max(sum(length for *_, length in bar.parts) for bar in found.screen) == pytest.approx(100, abs=0.1)
    assert sum(share for *_, share in found.emotions) == pytest.approx(1)
    (strips,) = found.strips
    assert strips.emotions.bars
    assert strips.ages.bars


def test_a_person_has_its_own_appearances_alone(disk, reader):
    found = read_report(reader, ReportScope("person", 1))
    assert found.title == "Ada"
    assert {one.person_id for one in found.moments} == {1}
    assert [one.label for one in found.people] == ["Ada"]
    assert found.dropped == ()


@pytest.mark.parametrize("scope", [ReportScope("job", 9), ReportScope("media", 9), ReportScope("person", 9)])
def test_a_subject_that_is_missing_is_named(disk, reader, scope):
    with pytest.raises(UsageError, match="9"):
        read_report(reader, scope)


def test_the_page_and_the_file_have_the_same_content(disk, browser):
    page = browser.get("/report/media/1").text
    download = browser.get("/report/media/1?as=file")
    assert "attachment" in download.headers["content-disposition"]
    for words in ("What was analysed", "People", "Appearances", "How this was made", "Limits", "Ada"):
        assert words in page
        assert words in download.text
    assert 'href="/media/1?at=' in page
    browser.get("/report/media/1?as=pdf", 400)
    for path in ("/report/media/9", "/report/job/9", "/report/person/9", "/report/release/1", "/report/job/x"):
        browser.get(path, 404)


def test_a_file_needs_nothing_else(people, browser):
    html = browser.get("/report/person/1?as=file").text
    found = addresses(html)
    pictures = [value for tag, _, value in found if tag == "img"]
    assert pictures
    for picture in pictures:
        head, _, data = picture.partition(",")
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (112, 112)
    links = [value for tag, _, value in found if tag == "a"]
    assert all(value.startswith("file:///") for value in links)
    assert {tag for tag, *_ in found} <= {"a", "img"}
    assert "@import" not in html
    assert not re.search(r"url\((?!['\"]?data:)", html)
    assert "<script" not in html


def test_a_report_without_a_crop_store_is_still_a_report(people, reader, tmp_path):
    html = write_report(reader, read_report(reader, ReportScope("person", 1)), CropStore(str(tmp_path / "nowhere")))
    assert "without a picture" in html
    assert "<img" not in html


@pytest.mark.parametrize(
    ("uri", "kind", "address"),
    [
        ("/films/a b.mp4", "video", "file:///films/a%20b.mp4#t=61.50"),
        ("/photos/é?#.jpg", "image", "file:///photos/%C3%A9%3F%23.jpg"),
        ("https://example.org/a.mp4", "video", "https://example.org/a.mp4#t=61.50"),
        ("/archive.zip!/a.jpg", "image", None),
        ("s3://bucket/a.mp4", "video", None),
        ("javascript:alert(1)", "image", None),
    ],
)
def test_links_lead_to_the_second(uri, kind, address):
    moment = Moment(
        appearance_id=1, media_id=1, uri=uri, kind=kind, person_id=None, label="", start_seconds=61.5, end_seconds=62,
        screen_seconds=1, age=None, gender=None, emotion=None,
    )  # fmt: skip
    assert link_to_file(moment) == address
