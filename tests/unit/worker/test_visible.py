"""Names are shown as what they are: nothing in them reaches a terminal, a log or a reader's eye unseen."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata

import pytest

from worker.masking import MaskingFormatter
from worker.visible import path_text, visible, visible_json, visible_lines

NAMES = {
    "clear\x1b[2J\x1b[Hscreen": r"clear\x1b[2J\x1b[Hscreen",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\": r"\x1b]8;;http://evil\x1b\link\x1b]8;;\x1b" + "\\",
    "\x9b31mred": r"\x9b31mred",
    "back\b\b\b\bfrom": r"back\x08\x08\x08\x08from",
    "a\rb": r"a\rb",
    "one\ntwo": r"one\ntwo",
    "tab\tbed": r"tab\tbed",
    "nul\0": r"nul\x00",
    "\u202egpj.exe": r"\u202egpj.exe",
    "\u2066isolated\u2069": r"\u2066isolated\u2069",
    "mark\u200f": r"mark\u200f",
    "zero\u200bwidth": r"zero\u200bwidth",
    "\ufeffbom": r"\ufeffbom",
    "soft\xadhyphen": r"soft\xadhyphen",
    "line\u2028separator": r"line\u2028separator",
    "tag\U000e0041": r"tag\U000e0041",
    "blank\u3164": r"blank\u3164",
    "latin\udce9": r"latin\xe9",
    "lone\ud800": r"lone\ud800",
}
PLAIN = [
    "Zoë Müller", "Ελένη", "Иван", "日本太郎", "김철수", "محمد علي", "שלום", "हिन्दी", "ไทย", "می‌خواهم", "👩‍🚀", "é",
    "a\\x1b", "[red]x[/red]", ":heart:", "100 % {0} $HOME",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_seen_is_written_as_an_escape(name):
    assert visible(name) == NAMES[name]


@pytest.mark.parametrize("name", PLAIN)
def test_text_of_every_script_stays(name):
    assert visible(name) == name


def test_no_control_bidirectional_or_separating_character_passes():
    kept = {"\u200c", "\u200d"}
    signs = (chr(code) for code in range(sys.maxunicode + 1))
    unseen = [sign for sign in signs if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"}]
    unseen += [sign for sign in map(chr, range(0x3000)) if unicodedata.category(sign) == "Cf" and sign not in kept]
    passed = [sign for sign in unseen if visible(sign) == sign]
    # Signs of Arabic numerals are format characters that are drawn.
    assert {unicodedata.name(sign).split()[0] for sign in passed} <= {"ARABIC", "SYRIAC"}


@pytest.mark.parametrize("name", [*NAMES, *PLAIN])
def test_json_keeps_its_value_and_no_terminal_obeys_it(name):
    document = visible_json(json.dumps({"name": name}, ensure_ascii=False, indent=1))
    assert json.loads(document) == {"name": name}
    assert visible(document.replace("\n", "")) == document.replace("\n", "")
    document.encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_forges_no_line_of_a_log(name):
    hostile = f"{name}\nERROR worker: all lost"
    record = logging.LogRecord("x", 30, "f", 1, "read %s", (hostile,), None)
    assert len(MaskingFormatter("%(levelname)s %(message)s").format(record).splitlines()) == 1
    err = ValueError(hostile)
    record = logging.LogRecord("x", 30, "f", 1, "lost", (), (ValueError, err, None))
    first, *others = MaskingFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert first == "WARNING lost"
    assert all(line.startswith("  ") for line in others)


def test_further_lines_of_an_error_are_indented():
    assert visible_lines("facet: a\nfacet: b\x1b") == "facet: a\n  facet: b\\x1b"


def test_paths_become_text_for_a_database():
    assert path_text("x\udce9.jpg") == "x\\xe9.jpg"
    assert path_text("é\n.jpg") == "é\n.jpg"
