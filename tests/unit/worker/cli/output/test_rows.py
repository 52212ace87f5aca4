"""Rows for terminals: what is shortened, in which order, and what never is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from worker.cli.output.rows import Rows, shorten
from worker.pictures.exports.cells import cell, heading

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
LONG = "the container is damaged and " * 40


def lines(rows: Rows, width: int) -> list[str]:
    out = Console(width=width, color_system=None)
    with out.capture() as captured:
        out.print(rows)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([0.25] * 128, "[128]"),
        ([1.5, 2.0, 3.0, 4.25], "[1.5, 2, 3, 4.25]"),
        ([], "[]"),
        (["a", "b", "c", "d", "e", "f"], '["a", "b", "c", "d", "e", "f"]'),
        ({"a": [1] * 9}, '{"a": [1, 1, 1, 1, 1, 1, 1, 1, 1]}'),
        (True, "True"),
        (None, ""),
    ],
)
def test_a_long_list_of_numbers_is_its_length(value, shown):
    assert cell(value) == shown


def test_numbers_and_times_are_never_shortened():
    row = (123_456_789_012, NOON, 38.029, LONG)
    for width in range(20, 130, 7):
        text = "\n".join(lines(Rows("", ("number", "at", "age", "note"), [row]), width))
        assert "123456789012" in text
        assert "2026-11-28" in text
        assert "38.029" in text


@pytest.mark.parametrize("width", range(30, 140, 11))
def test_no_line_is_too_wide_whatever_the_rows_are(width):
    rows = [(1, f"/srv/archive/{'x' * 40}/film.mp4", LONG, "山田" * 30, {"a": list(range(50))}, NOON)] * 2
    found = lines(Rows("t", ("a", "uri", "note", "name", "document", "created_at"), rows), width)
    assert max(map(cell_len, found)) <= width


def test_a_grid_that_does_not_fit_is_one_record_a_block():
    columns = [f"column_{number}" for number in range(20)]
    rows = Rows("", columns, [range(20), range(20)])
    assert rows.fits(400)
    assert not rows.fits(80)
    found = lines(rows, 80)
    assert found[0].startswith("-- 1 -")
    assert found[21].startswith("-- 2 -")
    assert found[20] == "column_19  19"
    assert len(found) == 42


def test_no_row_is_said_where_there_is_no_grid():
    assert lines(Rows("", [f"column_{number}" for number in range(20)], []), 80) == ["(no rows)"]


def test_sentences_are_folded_and_whole():
    found = lines(Rows("", ("what", "found"), [("disk", LONG)], prose=("found",)), 60)
    assert " ".join(" ".join(found).replace("│", " ").split()).count("the container is damaged and") == 40


def test_long_names_are_broken_where_words_meet():
    found = lines(Rows("", ("appearance_count", "media_count", "ethnicity"), [(1, 2, "White")]), 40)
    assert "appearance_" in found[1]
    assert "count" in found[2]
    assert max(map(len, found)) <= 40


@pytest.mark.parametrize(
    ("path", "width", "shown"),
    [
        ("/srv/archive/films/film.mp4", 40, "/srv/archive/films/film.mp4"),
        ("/srv/archive/films/film.mp4", 18, ".../films/film.mp4"),
        ("/srv/a/b/c/d/e/films/film.mp4", 27, "/.../b/c/d/e/films/film.mp4"),
        ("/srv/archive/a-very-long-name-of-a-film.mp4", 20, "a-very-lo...film.mp4"),
    ],
)
def test_a_path_keeps_its_end(path, width, shown):
    found = shorten(path, width, "path")
    assert found == shown
    assert cell_len(found) <= width


def test_text_keeps_both_ends_and_wide_characters_count_twice():
    assert shorten("abcdefghijklmnop", 9) == "abc...nop"
    assert cell_len(shorten("山田太郎" * 9, 12)) <= 12


def test_paths_below_the_current_folder_are_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    found = lines(Rows("", ("uri",), [(f"{here}/films/film.mp4",), (f"{here}-2/film.mp4",)]), 300)
    assert "│ films/film.mp4" in found[3]
    assert f"│ {here}-2/film.mp4" in found[4]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("person_id", "person"),
        ("appearance_count", "appearances"),
        ("media_count", "media"),
        ("start_seconds", "start s"),
        ("created_at", "created"),
        ("held_reason", "held reason"),
    ],
)
def test_headings_are_short(name, short):
    assert heading(name) == short
