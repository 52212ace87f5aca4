"""Names that are code or turn the line around, seen in a real browser; and requests that come past the proxy."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.acceptance.web.conftest import served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CODE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&"
TURNED = "gpj.\u202eannA \u2066x"
"""Characters that show what follows from right to left, and one that isolates it."""
NAME = f"{CODE} {TURNED}"
FOLDER = "<svg onload=alert(3)> \u202eredlof"
FILE = "\"><img src=x onerror=alert(4)>'& \u202egpj.exe.jpg"
BIDI = ("\u202e", "\u2066")


def rows(site, query):
    return json.loads(site.facet("sql", query, "--format", "json"))


@pytest.fixture(scope="module")
def hostile(site, tmp_path_factory):
    """An archive in which a person, a file, its folder and a job have hostile names; returns their numbers."""
    (portrait,) = rows(site, "SELECT uri FROM media WHERE uri LIKE '%portraits/grace-hopper.jpg'")
    folder = tmp_path_factory.mktemp("hostile") / FOLDER
    folder.mkdir()
    with Image.open(portrait["uri"]) as picture:
        picture.save(folder / FILE, quality=80)
    site.facet("analyze", str(folder))
    (found,) = rows(
        site,
        """SELECT media_id, person_id, (SELECT max(job_id) FROM jobs) AS job_id
           FROM media JOIN appearances USING (media_id) WHERE uri LIKE '%onerror%'""",
    )
    site.facet("people", "name", str(found["person_id"]), NAME)
    return found


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/people", CODE),
        ("/people/{person_id}", CODE),
        ("/people/{person_id}/times", FILE[:20]),
        ("/people/{person_id}/history", CODE),
        ("/people/{person_id}/forget", CODE),
        ("/media", FILE[:20]),
        ("/media/{media_id}", CODE),
        ("/media/{media_id}?view=still", CODE),
        ("/jobs", FOLDER[:20]),
        ("/jobs/{job_id}", FOLDER[:20]),
        ("/report/media/{media_id}", CODE),
        ("/report/person/{person_id}", CODE),
        ("/ask/sql?q=SELECT+name+FROM+people", CODE),
        ("/people?q=%3Cscript%3Ealert(5)%3C/script%3E", "Nobody matches"),
        ("/ask/sql?q=SELECT+%27%3Cscript%3Ealert(6)%3C/script%3E%27+AS+x", "<script>alert(6)</script>"),
    ],
)
def test_hostile_names_are_text(open_page, hostile, path, shown):
    page = open_page(path.format(**hostile))  # which fails on a dialog, and on a violation of the policy
    page.wait_for_load_state("networkidle")
    seen = page.locator("main").inner_text()
    assert shown in seen
    assert not any(mark in seen for mark in BIDI), "a name turns the text around it"
    assert page.locator("[onerror], [onload], script:not([src])").count() == 0
    assert page.title().endswith("Facet")


def test_a_hostile_name_is_given_suggested_and_offered_in_the_browser(open_page, hostile):
    page = open_page("/people?naming=unnamed")
    page.locator("input[type=checkbox][name=person]").first.check()
    field = page.get_by_label("Name", exact=True)
    field.fill("<img")
    page.locator("#names option").first.wait_for(state="attached")
    field.fill(NAME)
    page.locator("#name").click()
    page.get_by_role("heading", name="already").wait_for()
    assert CODE in page.locator("h1").inner_text()
    assert page.locator("[onerror], [onload]").count() == 0


@pytest.fixture(scope="module")
def behind_proxy(home, chromium):
    """Return a function that asks a page behind a proxy: the browser's address is listed, or it is not."""

    def asked(proxies: str, **headers: str) -> tuple[int, str]:
        settings = {"FACET_WEB_PROXIES": proxies, "FACET_WEB_USER_HEADER": "X-User",
                    "FACET_WEB_GROUPS_HEADER": "X-Groups", "FACET_WEB_ROLES": "archivists=reader"}  # fmt: skip
        with served(home, **settings) as address, chromium.new_context(extra_http_headers=headers) as context:
            page = context.new_page()
            response = page.goto(f"{address}people")
            return response.status, page.locator("main").inner_text()

    return asked


def test_a_browser_that_comes_past_the_proxy_is_refused(behind_proxy):
    status, seen = behind_proxy("10.0.0.5", **{"X-User": "ada", "X-Groups": "archivists"})
    assert (status, "past the proxy" in seen) == (403, True)
    assert "person" not in seen


def test_a_user_without_a_role_is_refused_and_one_with_a_role_sees_the_page(behind_proxy):
    status, seen = behind_proxy("127.0.0.1", **{"X-User": "eve", "X-Groups": "guests"})
    assert (status, "eve is in no group" in seen) == (403, True)
    status, seen = behind_proxy("127.0.0.1", **{"X-User": "ada", "X-Groups": "archivists"})
    assert (status, "appearances in" in seen) == (200, True)
