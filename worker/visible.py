"""Makes text safe to show: control characters and invisible ones become escapes.

Names of files and people come from outside. A terminal runs the escape sequences in them, a bidirectional control turns
the words beside them round, a line break forges a line of a log, and a zero-width space makes two names look equal.
"""

from __future__ import annotations

import os
import re

# Control and format characters, line and paragraph separators, lone surrogates and tags. The joiners U+200C and U+200D
# stay: Persian and Indic words and many emoji are spelt with them.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_BYTES = range(0xDC80, 0xDD00)  # bytes that are no UTF-8, as Python reads them in file names and arguments


def visible(text: str) -> str:
    r"""Return a text on one line that a terminal shows as it is, for example ``\x1b[2J`` instead of a cleared screen.

    Bytes that are no UTF-8 are written like ``\xe9``. A backslash of the text itself stays as it is.
    """
    return _UNSEEN.sub(lambda found: escaped(found[0]), text)


def escaped(character: str) -> str:
    r"""Return the escape of a character, for example ``\u202e``."""
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code in _BYTES:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def path_text(path: str) -> str:
    """Return a path or argument as text that a database can hold; bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 image``, ``1,200 images``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def visible_lines(text: str, indent: str = "  ") -> str:
    """Return lines made visible; further ones are indented, so that none passes for a message of its own."""
    return f"\n{indent}".join(visible(line) for line in text.split("\n"))


def visible_json(document: str) -> str:
    """Return a JSON document of the same value in which strings hold no control character."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in "\n\r\t" else _json_escape(found[0]), document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
