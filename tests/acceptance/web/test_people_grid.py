"""The grid of people in a real browser: by mouse, by keys alone, with hostile names, at all widths and colours."""

from __future__ import annotations

import pytest

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
