"""Names on images: every script of the fonts is drawn, and characters without a glyph are written as escapes."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageDraw

from worker.pictures.fonts.typefaces import Typefaces
from worker.pictures.lettering import ELLIPSIS, Lettering, drawable

OWN = Typefaces(folders=())
"""As on a machine without a font."""


def drawn(text, width=400, typefaces=OWN):
    image = Image.new("L", (width, 40))
    Lettering(20, typefaces).draw(ImageDraw.Draw(image), (0, 0), text, 255)
    return np.array(image)


NAMES = (
    "Zoë", "Ελένη", "Иван", "日本太郎", "김철수", "محمد", "שלום", "Łukasz ß", "Nguyễn Thị Đặng", "ἀρχή", "Ђорђевић Ґ",
    "Ḥāfiẓ ʿAlī", "Հայկ", "გიორგი", "Ņikita Ķēniņš", "Ángel Ñandú",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_drawn_as_letters(name):
    assert drawable(name, OWN) == name
    assert drawn(name).any()
    assert not np.array_equal(drawn(name), drawn("?" * len(name)))


@pytest.mark.parametrize("name", ["Zoë", "Åström", "Žižek", "Nguyễn", "Ёлка", "Ελένη"])
def test_accents_that_are_stored_apart_are_drawn_on_their_letters(name):
    apart = unicodedata.normalize("NFD", name)
    assert apart != name
    assert np.array_equal(drawn(apart), drawn(name))


def test_a_mark_without_a_composed_letter_takes_no_room_of_its_own():
    letters = Lettering(20, OWN)
    assert drawable("m\u0302", OWN) == "m\u0302"
    assert abs(letters.width("m\u0302m") - letters.width("mm")) <= 1


def test_several_typefaces_share_a_line():
    letters = Lettering(20, OWN)
    parts = sum(letters.width(part) for part in ("Ada ", "山田 ", "Ελένη"))
    assert letters.width("Ada 山田 Ελένη") == pytest.approx(parts, abs=3)
    assert np.array_equal(drawn("Ada 山田")[:, : letters.width("Ada ")], drawn("Ada ")[:, : letters.width("Ada ")])


def test_words_from_right_to_left_are_exchanged_beside_another_typeface():
    width = Lettering(20, OWN).width("כהן")
    assert np.array_equal(drawn("שלום כהן 山")[:, :width], drawn("כהן")[:, :width])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("हि", r"\u0939\u093f"), ("ไ", r"\u0e44"), ("😀", r"\U0001f600"), ("a\u202eb", r"a\u202eb"),
        ("\x1b[2J", r"\x1b[2J"), ("two\nlines", r"two\nlines"), ("?", "?"), ("[/red]", "[/red]"),
    ],
)  # fmt: skip
def test_a_character_without_a_glyph_is_written_as_an_escape(name, expected):
    assert drawable(name, OWN) == expected


def test_words_from_right_to_left_keep_their_order():
    first, second = "שלום", "כהן"
    both = drawn(f"{first} {second}")
    alone = drawn(second)
    width = Lettering(20, OWN).width(second)
    assert np.array_equal(both[:, :width], alone[:, :width])  # the second word stands at the left


def test_long_text_is_shortened_to_its_room():
    letters = Lettering(13, OWN)
    for text in ("happiness " * 40, "ж" * 200, "日" * 100):
        fitted = letters.fit(text, 120)
        assert fitted.endswith(ELLIPSIS)
        assert 90 < letters.width(fitted) <= 120
    assert letters.fit("short", 120) == "short"
    assert letters.width("") == 0
