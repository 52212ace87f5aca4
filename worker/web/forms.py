"""Typed reading of query strings and forms; a wrong value is the visitor's mistake, and named in a sentence."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from worker.errors import UsageError
from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from starlette.datastructures import FormData, UploadFile

MAX_FIELD_TEXT = 1000  # characters of a field, unless its reader states another limit
MAX_NUMBER = (1 << 63) - 1  # of a row


def text_of(given: Mapping[str, object], name: str, *, limit: int = MAX_FIELD_TEXT) -> str | None:
    """Return a field as text without spaces around it, None where it is missing or empty.

    Raises:
        UsageError: it is longer than the limit, or holds a character that the database cannot store.
    """
    value = given.get(name)
    if not isinstance(value, str):
        return None
    value = unicodedata.normalize("NFC", value.strip())
    if len(value) > limit:
        raise UsageError(f"{name} has {len(value)} characters, expected at most {limit}; shorten it")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise UsageError(f"{name} is {visible(value)}, which no database stores; take the special characters out")
    return value or None


def whole_of(given: Mapping[str, object], name: str, *, least: int = 0, most: int = MAX_NUMBER) -> int | None:
    """Return a field as a whole number, None where it is missing or empty.

    Raises:
        UsageError: it is no number, or out of bounds.
    """
    value = text_of(given, name)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 20 and least <= int(value) <= most):
        bounds = f"from {least} to {most}" if most < MAX_NUMBER else f"of at least {least}"
        raise UsageError(f"{name} is {visible(value)}, expected a whole number {bounds}; correct it")
    return int(value)


def decimal_of(given: Mapping[str, object], name: str, *, least: float = 0.0) -> float | None:
    """Return a field as a number, None where it is missing or empty.

    Raises:
        UsageError: it is no finite number, or below the least one.
    """
    value = text_of(given, name)
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < least:
        raise UsageError(f"{name} is {visible(value)}, expected a number of at least {least:g}; correct it")
    return number


def choice_of(given: Mapping[str, object], name: str, choices: Collection[str]) -> str | None:
    """Return a field that is one of some words, None where it is missing or empty.

    Raises:
        UsageError: it is another word.
    """
    value = text_of(given, name)
    if value is not None and value not in choices:
        raise UsageError(f"{name} is {visible(value)}, expected one of {', '.join(choices)}; choose one")
    return value


def numbers_of(form: FormData, name: str) -> list[int]:
    """Return the numbers of a field that occurs once for each, such as checkboxes, each once and in their order.

    Raises:
        UsageError: one is no number of a row.
    """
    found = [whole_of({name: one}, name, least=1) for one in form.getlist(name)]
    return list(dict.fromkeys(number for number in found if number is not None))


def file_of(form: FormData, name: str) -> UploadFile | None:
    """Return a file that was sent, None where none was chosen."""
    value = form.get(name)
    return None if value is None or isinstance(value, str) or not value.filename else value


def local_address(given: str | None, default: str) -> str:
    """Return an address of this page to go back to; the default for any other address."""
    if not given or not given.startswith("/") or given.startswith(("//", "/\\")):
        return default
    try:
        parts = urlsplit(given)
    except ValueError:
        return default
    plain = given.isascii() and given.isprintable() and "\\" not in given
    return given if plain and not parts.scheme and not parts.netloc else default
