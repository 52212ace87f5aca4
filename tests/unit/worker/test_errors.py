"""Errors of any kind become text that a database can hold."""

from __future__ import annotations

import pytest

from worker.errors import MAX_ERROR_CHARACTERS, FinishFailed, described


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError(7), "KeyError: 7"),
        (MemoryError(), "MemoryError"),
        (SystemExit(3), "SystemExit: 3"),
        (ValueError("a\0b \udce9"), "ValueError: a\\x00b \\udce9"),
        (ValueError("postgresql://me:secret@h/db"), "ValueError: postgresql://me:***@h/db"),
        (Mute(), "Mute: its text cannot be made"),
    ],
)
def test_an_error_is_told_without_what_no_database_takes(error, words):
    assert described(error) == words
    assert FinishFailed(error).reason == f"finish: joining its faces failed: {words}"


def test_a_long_text_is_cut_after_its_secrets_are_out():
    told = described(ValueError("password=" + "x" * 3_000_000))
    assert told == "ValueError: password=***"
    assert len(described(ValueError("x " * 1_000_000))) < MAX_ERROR_CHARACTERS + 30
