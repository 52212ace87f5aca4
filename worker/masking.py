"""Takes secrets out of text that people or logs will see: passwords in addresses, keys in query strings."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from worker.visible import visible, visible_lines

if TYPE_CHECKING:
    from types import TracebackType

    ExceptionFacts = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s/:@'\"]*):(?P<password>[^\s'\"]+)@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(?P<name>\b[\w.-]*(?:password|passwd|pwd|secret|token|signature|credential|(?:access|api|account|shared)[_-]?key|"
    r"sas|sig|security)[\w.-]*)(?P<is>['\"]?\s*[=:]\s*['\"]?)(?P<value>[^\s&;,'\"]+)",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return a text with ``***`` for each password of an address and each value of a parameter that names a secret."""
    hidden = _USER.sub(lambda found: f"{found['scheme']}{found['user']}:***@", text)
    return _PARAMETER.sub(lambda found: f"{found['name']}{found['is']}***", hidden)


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
