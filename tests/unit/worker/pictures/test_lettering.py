"""Names on images: every script of the fonts is drawn, and characters without a glyph are written as escapes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from worker.pictures.lettering import ELLIPSIS, Lettering, drawable


def drawn(text, width=400):
    image = Image.new("L", (width, 40))
    Lettering(20).draw(ImageDraw.Draw(image), (0, 0), text, 255)
    return np.array(image)


@pytest.mark.parametrize("name", ["Zoë", "Ελένη", "Иван", "日本太郎", "김철수", "محمد", "שלום", "Łukasz ß"])
def test_scripts_are_drawn_as_letters(name):
    assert drawable(name) == name
    assert drawn(name).any()
    assert not np.array_equal(drawn(name), drawn("?" * len(name)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("हि", r"\u0939\u093f"), ("ไ", r"\u0e44"), ("😀", r"\U0001f600"), ("a\u202eb", r"a\u202eb"),
        ("\x1b[2J", r"\x1b[2J"), ("two\nlines", r"two\nlines"), ("?", "?"), ("[/red]", "[/red]"),
    ],
)  # fmt: skip
def test_a_character_without_a_glyph_is_written_as_an_escape(name, expected):
    assert drawable(name) == expected


def test_words_from_right_to_left_keep_their_order():
    first, second = "שלום", "כהן"
    both = drawn(f"{first} {second}")
    alone = drawn(second)
    width = Lettering(20).width(second)
    assert np.array_equal(both[:, :width], alone[:, :width])  # the second word stands at the left


def test_long_text_is_shortened_to_its_room():
    letters = Lettering(13)
    for text in ("happiness " * 40, "ж" * 200, "日" * 100):
        fitted = letters.fit(text, 120)
        assert fitted.endswith(ELLIPSIS)
        assert 90 < letters.width(fitted) <= 120
    assert letters.fit("short", 120) == "short"
    assert letters.width("") == 0
