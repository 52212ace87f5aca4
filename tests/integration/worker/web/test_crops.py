"""Pictures of faces: the right one, cached by a strong tag, and a placeholder where there is none."""

from __future__ import annotations

import io

from PIL import Image


def test_a_face_is_shown_and_cached(people, browser):
    first = browser.get("/faces/2.jpg")
    image = Image.open(io.BytesIO(first.content))
    assert image.size == (112, 112)
    pixel = image.convert("RGB").getpixel((50, 50))
    assert max(abs(a - b) for a, b in zip(pixel, (74, 182, 26), strict=True)) < 6
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert browser.get("/faces/2.jpg", 304, headers={"if-none-match": tag}).content == b""
    other = browser.get("/faces/1.jpg", headers={"if-none-match": tag})
    assert other.headers["etag"] != tag
    assert Image.open(io.BytesIO(browser.get("/faces/2.jpg?size=56").content)).size == (56, 56)
    browser.get("/faces/2.jpg?size=5000", 400)


def test_an_appearance_shows_its_best_face(people, browser):
    assert browser.get("/appearances/2.jpg").headers["etag"] == browser.get("/faces/2.jpg").headers["etag"]


def test_a_face_without_a_crop_is_drawn(people, browser):
    missing = browser.get("/faces/999999.jpg", 404)
    assert missing.headers["content-type"] == "image/svg+xml"
    assert "etag" not in missing.headers
