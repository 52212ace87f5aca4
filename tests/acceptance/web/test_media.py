"""Videos, images and reports in a real browser: boxes in step with the picture, jumps, single frames, and one file."""

from __future__ import annotations

import json
from bisect import bisect_right
from urllib.parse import parse_qs, urlsplit

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTLED = """async (at) => {
    const video = document.querySelector("video");
    let seconds = -1;
    video.currentTime = at + 0.004;
    while (Math.abs(seconds - at) > 0.03) /* a frame from before the jump may still come */
        seconds = await new Promise((done) => video.requestVideoFrameCallback((_, frame) => done(frame.mediaTime)));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    return seconds;
}"""
DRAWN = """() => [...document.querySelectorAll("[data-boxes] g[data-appearance]")].map((group) => {
    const rect = group.querySelector("rect"), shown = rect.getBoundingClientRect();
    return {
        appearance: Number(group.dataset.appearance), label: group.querySelector("text").textContent,
        box: ["x", "y", "width", "height"].map((name) => Number(rect.getAttribute(name))),
        shown: [shown.left, shown.top, shown.width, shown.height],
    };
})"""


def rows(site, query):
    return json.loads(site.facet("sql", query, "--format", "json"))


@pytest.fixture(scope="module")
def video(site):
    """The film of two people, with the faces of each appearance."""
    (found,) = rows(site, "SELECT media_id, width, height FROM media WHERE uri LIKE '%two-pioneers.mp4'")
    faces = rows(
        site,
        f"""SELECT appearance_id, at_seconds, x1, y1, x2 - x1 AS w, y2 - y1 AS h FROM faces
            WHERE media_id = {found["media_id"]} AND appearance_id IS NOT NULL ORDER BY at_seconds""",
    )
    return found | {"faces": faces}


@pytest.fixture(scope="module")
def image(site):
    (found,) = rows(site, "SELECT media_id FROM media WHERE uri LIKE '%portraits/grace-hopper.jpg'")
    return found["media_id"]


def expected(video, seconds):
    """The box of each appearance in view, interpolated between its faces as annotated videos have it."""
    found = {}
    for appearance in {face["appearance_id"] for face in video["faces"]}:
        own = [face for face in video["faces"] if face["appearance_id"] == appearance]
        times = [face["at_seconds"] for face in own]
        if not times[0] - 1e-3 <= seconds <= times[-1] + 1e-3:
            continue
        after = min(max(bisect_right(times, seconds), 1), len(times) - 1)
        before = own[after - 1]
        share = (seconds - before["at_seconds"]) / ((own[after]["at_seconds"] - before["at_seconds"]) or 1)
        share = min(max(share, 0), 1)
        found[appearance] = [
            before[name] + (own[after][name] - before[name]) * share for name in ("x1", "y1", "w", "h")
        ]
    return found


@pytest.mark.parametrize("narrow", [False, True])
def test_boxes_are_where_the_faces_are_at_three_times(open_page, video, narrow):
    page = open_page(f"/media/{video['media_id']}", narrow=narrow)
    page.wait_for_selector("[data-boxes] g[data-appearance]", state="attached")
    moved = []
    for at in (0.5, 1.75, 3.5):  # a sampled frame, one between two, and the other person
        seconds = page.evaluate(SETTLED, at)
        assert seconds == pytest.approx(at, abs=0.03)
        wanted = expected(video, seconds)
        drawn = page.evaluate(DRAWN)
        assert {one["appearance"] for one in drawn} == set(wanted), (at, seconds)
        assert drawn
        place = page.evaluate("(() => { const b = document.querySelector('video').getBoundingClientRect();"
                              " return [b.left, b.top, b.width, b.height] })()")  # fmt: skip
        scale = min(place[2] / video["width"], place[3] / video["height"])
        left = place[0] + (place[2] - video["width"] * scale) / 2
        top = place[1] + (place[3] - video["height"] * scale) / 2
        for one in drawn:
            x, y, w, h = wanted[one["appearance"]]
            assert one["box"] == pytest.approx([x, y, w, h], abs=0.3)
            shown = [left + x * scale, top + y * scale, w * scale, h * scale]
            assert one["shown"] == pytest.approx(shown, abs=3)  # pixels of the screen, the line included
            moved.append(round(x))
    assert len(set(moved)) > 2


def test_boxes_move_while_the_video_plays(open_page, video):
    page = open_page(f"/media/{video['media_id']}")
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    page.evaluate("document.querySelector('video').muted = true")
    page.evaluate("document.querySelector('video').play()")
    places = set()
    for _ in range(30):
        page.wait_for_timeout(100)
        places |= {tuple(one["box"]) for one in page.evaluate(DRAWN)}
    assert len(places) > 5


def test_lanes_lead_to_their_seconds_with_mouse_and_keyboard(open_page, video):
    page = open_page(f"/media/{video['media_id']}")
    page.wait_for_function("document.querySelector('video').readyState >= 1")
    bars = page.locator(".track [data-at]")
    late = max(bars.all(), key=lambda bar: float(bar.get_attribute("data-at")))
    at = float(late.get_attribute("data-at"))
    assert at > 2
    late.click()
    page.wait_for_function(f"Math.abs(document.querySelector('video').currentTime - {at}) < 0.1")
    assert float(parse_qs(urlsplit(page.url).query)["at"][0]) == pytest.approx(at, abs=0.01)
    first = bars.first
    first.focus()
    assert "to" in first.get_attribute("aria-label")
    page.keyboard.press("Enter")
    start = float(first.get_attribute("data-at"))
    page.wait_for_function(f"Math.abs(document.querySelector('video').currentTime - {start}) < 0.1")
    assert page.locator("[data-playhead]").is_visible()
    page.goto(page.url)  # the address holds the moment
    page.wait_for_function(f"Math.abs(document.querySelector('video').currentTime - {start}) < 0.1")


def test_a_video_that_the_browser_cannot_play_is_shown_in_frames(open_page, video):
    page = open_page("/media")
    page.route("**/bytes", lambda route: route.fulfill(body=b"no video at all", content_type="video/mp4"))
    page.goto(f"/media/{video['media_id']}?at=1.5")
    page.wait_for_selector("[data-unplayable]:not([hidden])")
    page.wait_for_function("document.querySelector('img.picture')?.naturalWidth > 0")
    drawn = page.evaluate(DRAWN)
    wanted = expected(video, 1.5)
    assert {one["appearance"]: one["box"] for one in drawn} == {
        key: pytest.approx(box, abs=0.3) for key, box in wanted.items()
    }
    slider = page.get_by_role("slider", name="Time")
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('img.picture').src.includes('at=8')")


def test_without_scripts_links_lead_to_frames_with_boxes(open_page, video):
    page = open_page(f"/media/{video['media_id']}", java_script_enabled=False)
    bar = page.locator(".track a").last
    page.goto(bar.get_attribute("href"))
    assert page.locator("img.picture").is_visible()
    assert page.locator("svg.boxes g rect").count() >= 1
    page.get_by_label("Second").fill("0.5")
    page.get_by_role("button", name="Show frame").click()
    assert "at=0.5" in page.url
    assert page.locator("svg.boxes g text").first.text_content()


def test_an_image_has_boxes_that_lead_to_people(open_page, image):
    page = open_page(f"/media/{image}")
    page.wait_for_function("document.querySelector('img.picture').naturalWidth > 0")
    box = page.locator("svg.boxes a")
    assert box.count() == 1
    assert box.get_attribute("href").startswith("/people/")
    assert box.get_attribute("aria-label").startswith("person")


def test_dropped_faces_can_be_shown(open_page, site):
    (found,) = rows(
        site,
        """SELECT media_id, at_seconds, dropped_reason FROM faces JOIN media USING (media_id)
           WHERE dropped_reason IS NOT NULL AND kind = 'image' ORDER BY face_id LIMIT 1""",
    )
    page = open_page(f"/media/{found['media_id']}?at={found['at_seconds']}")
    page.get_by_role("switch", name="Dropped faces").click()
    assert page.locator("svg.boxes .dropped text").first.text_content() == found["dropped_reason"]


def test_pages_of_files_and_reports_are_accessible(check_page, video, image):
    check_page("/media", "media")
    check_page("/media?status=rejected", "media-rejected")
    check_page(f"/media/{video['media_id']}", "video")
    check_page(f"/media/{video['media_id']}?view=still&at=1.5", "video-still")
    check_page(f"/media/{image}", "image")
    check_page(f"/report/media/{video['media_id']}", "report-video")
    check_page("/report/job/1", "report-job")


def test_a_report_opens_without_a_network_and_prints(site, chromium, tmp_path):
    site.facet("report", "--job", "1", "-o", str(tmp_path / "report.html"))
    with chromium.new_context(offline=True) as context:
        page = context.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())
        pictures = page.locator("img")
        assert pictures.count() >= 2
        assert all(one.evaluate("image => image.naturalWidth") == 112 for one in pictures.all())
        assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
        assert len([url for url in asked if url.startswith("file:")]) == 1
        assert page.get_by_role("heading", name="What was not analysed, and why").is_visible()
        page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
