"""The door of the page in a real browser: the printed link opens it once."""

from __future__ import annotations


def test_a_stranger_sees_how_to_come_in(site, chromium):
    with chromium.new_context() as context:
        page = context.new_page()
        response = page.goto(f"{site.base}/people")
        assert response.status == 401
        assert "open the latest link" in page.content()


def test_an_error_is_a_page_for_all(check_page):
    check_page("/no/such/page", "error")
