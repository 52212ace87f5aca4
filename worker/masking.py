"""Takes secrets out of text that people or logs will see: passwords in addresses, keys in query strings."""

from __future__ import annotations

import logging
import re

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
        """Return the line of a record."""
        return masked(super().format(record))
