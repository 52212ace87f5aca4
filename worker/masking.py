"""Takes secrets out of text that people or logs will see: passwords in addresses, keys in query strings."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from worker.visible import visible, visible_lines

if TYPE_CHECKING:
    from types import TracebackType

    ExceptionFacts = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

# Each is tried once at a place that was found before, and no two tries overlap: whatever a text holds, masking it takes
# time in proportion to its length.
_SCHEME_CHARACTER = re.compile(r"[a-z0-9+.-]", re.IGNORECASE)
_SCHEME_START = re.compile(r"\b[a-z]", re.IGNORECASE)
_USER = re.compile(r"[^\s/:@'\"]*:")
_END_OF_ADDRESS = re.compile(r"[\s'\"]")
_NAME = re.compile(r"[\w.-]+")
_SECRET_NAME = re.compile(
    r"password|passwd|pwd|secret|token|signature|credential|(?:access|api|account|shared)[_-]?key|sas|sig|security",
    re.IGNORECASE,
)
_VALUE = re.compile(r"(?P<is>['\"]?\s*[=:]\s*['\"]?)(?P<value>[^\s&;,'\"]+)")


def masked(text: str) -> str:
    """Return a text with ``***`` for each password of an address and each value of a parameter that names a secret."""
    hidden = _without(text, _passwords(text)) if "://" in text else text
    return _without(hidden, _secret_values(hidden))


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return a text with ``***`` for its spans, which ascend."""
    pieces, at = [], 0
    for start, end in spans:
        pieces += [text[at:start], "***"]
        at = end
    return "".join(pieces) + text[at:]


def _passwords(text: str) -> Iterator[tuple[int, int]]:
    """Yield where passwords of addresses stand: behind ``scheme://user:``, up to the last @ before space or quote."""
    at = end = last_at = 0
    mark = text.find("://")
    while mark >= 0:
        user = _USER.match(text, mark + 3) if _ends_scheme(text, at, mark) else None
        if user is not None:
            if user.end() >= end:
                found = _END_OF_ADDRESS.search(text, user.end())
                end = found.start() if found else len(text)
                last_at = text.rfind("@", user.end(), end)
            if last_at > user.end():
                yield user.end(), last_at
                at = last_at
        mark = text.find("://", max(mark + 3, at))


def _ends_scheme(text: str, floor: int, mark: int) -> bool:
    """Whether the name of a scheme stands between a place and a mark ``://``, directly before the mark."""
    start = mark
    while start > floor and _SCHEME_CHARACTER.match(text, start - 1):
        start -= 1
    return _SCHEME_START.search(text, start, mark) is not None


def _secret_values(text: str) -> Iterator[tuple[int, int]]:
    """Yield where values of parameters stand whose names show that they are secret."""
    at = 0
    for name in _NAME.finditer(text):
        if name.start() < at or not _SECRET_NAME.search(text, *name.span()):
            continue
        value = _VALUE.match(text, name.end())
        if value is not None:
            at = value.end()
            yield value.span("value")


def holds_secret(url: str) -> bool:
    """Whether an address carries a password or a key, or a user at all."""
    authority = url.partition("://")[2].partition("/")[0]
    return "@" in authority or masked(url) != url


class MaskingFormatter(logging.Formatter):
    """Formats records, tracebacks included, without their secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line; only tracebacks add lines to it, whatever its names hold."""
        return masked(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        """Return the message on one line."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: ExceptionFacts) -> str:  # noqa: N802 - as above
        """Return the indented lines of a traceback."""
        return "  " + visible_lines(super().formatException(ei))
