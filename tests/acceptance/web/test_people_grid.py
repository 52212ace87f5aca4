"""The grid of people in a real browser: by mouse, by keys alone, with hostile names, at all widths and colours."""

from __future__ import annotations

import pytest

from tests.acceptance.web.conftest import picture, violations

HOSTILE = '<img src=x onerror="document.title=1">"\'&'


def names(page) -> list[str]:
    return page.locator(".card .name").all_inner_texts()


def test_the_grid_is_for_all(check_page):
    check_page("/people", "people")
    check_page("/people?naming=unnamed&files=1&unsure=1", "people-none")
    check_page("/search", "search")


def test_faces_are_seen_and_said(open_page):
    page = open_page("/people")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("[...document.querySelectorAll('.face')].every((one) => one.naturalWidth === 112)")
    assert page.get_by_role("link", name="person 1", exact=True).count() == 1


def test_people_are_named_merged_hidden_and_brought_back_by_keys_alone(open_page):
    page = open_page("/people")
    before = sorted(names(page))
    assert len(before) >= 2
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("[data-count]").inner_text() == "1"
    page.keyboard.press("n")
    page.keyboard.type("Ada Lovelace")
    page.keyboard.press("Enter")
    page.wait_for_selector(".note")
    assert "Ada Lovelace" in names(page)
    for _ in range(2):
        page.keyboard.press("j")
        page.keyboard.press("x")
    assert page.locator("[data-count]").inner_text() == "2"
    page.keyboard.press("m")
    page.wait_for_selector(".note >> text=are one now")
    assert len(names(page)) == len(before) - 1
    page.keyboard.press("z")
    page.wait_for_selector(".note >> text=Undone")
    assert len(names(page)) == len(before)
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("h")
    page.wait_for_selector(".note >> text=hidden")
    assert len(names(page)) == len(before) - 1
    page.keyboard.press("z")
    page.wait_for_selector(".note >> text=shown again")
    page.keyboard.press("z")
    page.wait_for_selector(".note >> text=Undone")
    assert sorted(names(page)) == before


def test_help_opens_by_a_key_and_closes_by_escape(open_page):
    page = open_page("/people")
    page.keyboard.press("?")
    assert page.locator("dialog#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog#help").is_visible()


def test_a_hostile_name_stays_text(open_page):
    page = open_page("/people")
    page.locator("input[type=checkbox][name=person]").first.check()
    page.get_by_label("Name", exact=False).last.fill(HOSTILE)
    page.locator("#name").click()
    page.wait_for_selector(".note")
    assert HOSTILE in names(page)
    assert page.title().startswith("People")
    page.keyboard.press("z")
    page.wait_for_selector(".note >> text=Undone")


@pytest.mark.slow
def test_a_photo_finds_its_person(open_page, site):
    page = open_page("/people")
    page.set_input_files("input[name=photo]", site.archive / "portraits" / "eileen-collins.jpg")
    page.wait_for_url("**/search", timeout=120_000)
    page.wait_for_selector("section .card", timeout=120_000)
    assert "% probable" in page.locator(".card .facts").first.inner_text()
    searched = page.get_by_alt_text("The face in the photo")
    assert searched.evaluate("image => image.complete && image.naturalWidth") == 112
    assert violations(page) == []
    kept = [path for path in site.home.rglob("*") if path.is_file() and "upload-" in str(path)]
    assert kept == [], "the photo is not kept"


@pytest.mark.parametrize("scripts", [True, False])
def test_a_name_that_another_person_has_offers_a_merge(open_page, scripts):
    page = open_page("/people", java_script_enabled=scripts)
    before = sorted(names(page))

    def name_first_unnamed() -> None:
        card = page.locator(".card", has=page.locator(".name", has_text="person")).first
        card.locator("input[type=checkbox]").check()
        page.get_by_label("Name", exact=True).fill("Ada Lovelace")
        page.locator("#name").click()

    name_first_unnamed()
    page.locator(".note", has_text="is called Ada Lovelace").wait_for()
    name_first_unnamed()
    page.get_by_role("heading", name="Someone is called Ada Lovelace already").wait_for()
    assert page.locator("figure img").count() == 2
    page.get_by_role("button", name="Yes, merge them").click()
    page.locator(".note", has_text="2 people are one now").wait_for()
    assert page.url.endswith("/people")
    assert len(names(page)) == len(before) - 1
    for _ in range(2):
        page.get_by_role("button", name="Undo my last correction").click()
        page.locator(".note", has_text="Undone").wait_for()
        page.goto("/people")
    assert sorted(names(page)) == before


def test_the_offer_is_for_all(open_page, site):
    site.facet("people", "name", "1", "Ada Lovelace")
    for narrow, dark in ((False, False), (False, True), (True, False), (True, True)):
        page = open_page("/people?naming=unnamed", narrow=narrow, dark=dark)
        page.locator("input[type=checkbox][name=person]").first.check()
        page.get_by_label("Name", exact=True).fill("ada lovelace")
        page.locator("#name").click()
        page.get_by_role("heading", name="Someone is called ada lovelace already").wait_for()
        page.wait_for_load_state("networkidle")
        picture(page, f"same-name-{390 if narrow else 1280}-{'dark' if dark else 'light'}")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    page.goto("/people")
    page.get_by_role("button", name="Undo my last correction").click()


def test_filters_are_in_the_address_and_the_way_back_works(open_page):
    page = open_page("/people")
    page.get_by_label("Order").select_option("newest")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_url("**sort=newest**")
    page.go_back()
    assert page.url.endswith("/people")


def test_it_works_without_scripts(open_page):
    page = open_page("/people", java_script_enabled=False)
    page.locator("input[type=checkbox][name=person]").first.check()
    page.get_by_role("button", name="Hide").click()
    page.wait_for_selector(".note >> text=hidden")
    page.locator(".note button").click()
    page.wait_for_selector(".note >> text=shown again")
