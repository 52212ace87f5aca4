"""Jobs, releases, deployment and questions in a real browser: for all eyes, and with the keyboard alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from models import manifest as manifests
from models.release import DEFAULT
from tests.acceptance.web.conftest import FACET, NARROW, environment, picture, violations

if TYPE_CHECKING:
    from pathlib import Path

FACES = urlencode({"q": "SELECT face_id, gender, emotion, at_seconds FROM faces"})
LINE = urlencode({"q": "SELECT 1950 + n AS year, n * n AS faces FROM generate_series(1, 9) AS n"})
MISTAKE = urlencode({"q": "SELECT nam FROM people"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/jobs", "jobs"),
        ("/jobs/1", "job"),
        ("/releases", "releases"),
        ("/releases/1", "release"),
        ("/ask", "ask"),
        ("/ask/which-faces-were-detected-but-dropped", "question"),
        (f"/ask/sql?{FACES}", "answer"),
        (f"/ask/sql?{LINE}", "line"),
        ("/ask/columns", "columns"),
        ("/people/999999", "missing"),
    ],
)
def test_pages_are_for_all(check_page, path, name):
    check_page(path, name)


@pytest.fixture
def waiting_job(site, redis_url, tmp_path):
    """Submit a photo that no worker takes; returns the number of its job."""
    photo = tmp_path / "waits.jpg"
    photo.write_bytes((site.archive / "portraits" / "grace-hopper.jpg").read_bytes() + b"another file")
    settings = environment(site.home) | {"FACET_BROKER_URL": redis_url}
    subprocess.run([FACET, "submit", str(photo)], env=settings, check=True, capture_output=True)
    return json.loads(site.facet("sql", "SELECT max(job_id) AS job FROM jobs", "--format", "json"))[0]["job"]


@pytest.fixture
def candidate(site, tmp_path: Path):
    """Register the shipped release with an emotion that seldom answers, and reprocess; returns its number."""
    folder = tmp_path / "strict"
    shutil.copytree(DEFAULT, folder)
    content = json.loads((folder / manifests.FILE).read_text())
    content.pop("manifest_sha256")
    content["name"] = "strict"
    next(branch for branch in content["branches"] if branch["task"] == "emotion")["abstain"] = 0.95
    whole = {"manifest_sha256": manifests.sha256_of_json(content), **content}
    (folder / manifests.FILE).write_text(json.dumps(whole))
    site.facet("releases", "register", str(folder), "--as", "candidate")
    site.facet("reprocess", "--release", "candidate")
    return 2


def open_forms(page) -> None:
    """Open the forms that are folded."""
    for summary in page.locator("main details > summary").all():
        summary.click()


@pytest.mark.slow
def test_forms_that_change_much_are_for_all(check_page, waiting_job, candidate):
    check_page(f"/jobs/{waiting_job}", "job-cancel", open_forms)
    check_page(f"/releases/{candidate}", "release-activate", open_forms)
    check_page(f"/releases/1/diff/{candidate}", "diff", compare)


def compare(page) -> None:
    """Begin the comparison of two releases, and wait for it."""
    begin = page.get_by_role("button", name="Compare", exact=True)
    if begin.count():
        begin.click()
    page.get_by_role("heading", name="emotion: old label by new label").wait_for(timeout=120_000)
    assert page.locator(".movers img").count()


@pytest.mark.slow
def test_what_doctor_finds_shows_by_itself(open_page, check_page):
    page = open_page("/deployment")
    page.get_by_role("region", name="Findings").wait_for(timeout=120_000)
    assert page.locator("tbody tr").count() >= 10
    check_page("/deployment", "deployment")


def test_a_question_is_asked_with_the_keyboard_alone(open_page):
    page = open_page("/ask")
    page.get_by_role("link", name="write your own in SQL").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/ask/sql")
    while page.evaluate("document.activeElement.tagName") != "TEXTAREA":
        page.keyboard.press("Tab")
    page.keyboard.type("SELECT gender, emotion, face_id FROM faces")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("table").wait_for()
    rows = page.locator("tbody tr").count()
    while not page.evaluate("document.activeElement.href || ''").count("only.emotion=happiness"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="take out emotion is happiness").wait_for()
    assert 0 < page.locator("tbody tr").count() < rows
    page.go_back()
    page.locator("table").wait_for()
    assert page.locator("tbody tr").count() == rows


def test_an_answer_is_downloaded(open_page):
    page = open_page("/ask/which-faces-were-detected-but-dropped")
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    assert started.value.suggested_filename == "which-faces-were-detected-but-dropped.csv"
    assert started.value.path().read_text().startswith("outcome,faces,percent")


def test_a_page_works_without_scripts(open_page):
    page = open_page("/ask/who-is-in-the-most-files", java_script_enabled=False)
    page.get_by_label("Most people").fill("1")
    page.get_by_role("button", name="Ask").click()
    assert page.locator("tbody tr").count() == 1
    assert "people=1" in page.url
    page.goto("/releases/1")
    assert page.get_by_role("heading", name="History").count() == 1


def test_a_mistake_is_announced(open_page, site, chromium, signed_in):
    with chromium.new_context(storage_state=signed_in, base_url=site.base) as context:
        page = context.new_page()
        page.set_viewport_size(NARROW)
        assert page.goto(f"/ask/sql?{MISTAKE}").status == 400
        picture(page, "mistake-390-light")
        assert violations(page) == []
        assert "does not exist" in page.get_by_role("alert").inner_text()
