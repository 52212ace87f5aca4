"""Checks that a path or URL lies below one of the folders and URLs of ``FACET_MEDIA_ROOTS``.

A URL is compared as its server will understand it, and is refused in doubt: a part that decodes, once or repeatedly, to
a step upwards (also with parameters, as in ``..;x``), a separator or a control character lies below no root.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

# By scheme, for URLs with a host, an encoded path and a query; other schemes name keys literally.
DEFAULT_PORTS = {"http": 80, "https": 443}
UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
MAX_DECODINGS = 4  # of one path: servers behind proxies may decode repeatedly


@dataclass(frozen=True, slots=True)
class _Address:
    """The parts of a URL that are compared."""

    origin: str
    """Scheme, with host and port where it has them."""
    parts: tuple[str, ...]
    """Of the path."""


def within(url: str, roots: Sequence[str]) -> bool:
    """Return whether a URL lies below one of the roots that are URLs, however it is spelt."""
    address = _address(url)
    return address is not None and any(_covers(_address(root), address) for root in roots if "://" in root)


def local_roots(roots: Sequence[str]) -> list[Path]:
    """Return the folders among the roots, with links resolved."""
    return [Path(root).resolve() for root in roots if "://" not in root]


def is_below(path: Path, folders: Sequence[Path]) -> bool:
    """Return whether a path leads below one of some resolved folders."""
    real = path.resolve()
    return any(real.is_relative_to(folder) for folder in folders)


def place_of_open(descriptor: int) -> Path:
    """Return the resolved path of an open file."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _covers(root: _Address | None, address: _Address) -> bool:
    if root is None:
        return False
    base = tuple(part for part in root.parts if part)
    return root.origin == address.origin and base == address.parts[: len(base)]


def _address(url: str) -> _Address | None:
    """Return the parts that are compared; None for an ambiguous URL."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme in DEFAULT_PORTS:
        return _web_address(url, scheme)
    parts = rest.lstrip("/").split("/")
    return None if any(_is_unsafe(part) for part in parts) else _Address(scheme, tuple(parts))


def _web_address(url: str, scheme: str) -> _Address | None:
    try:
        split = urlsplit(url)
        port = split.port or DEFAULT_PORTS[scheme]
    except ValueError:
        return None
    host = (split.hostname or "").removesuffix(".")
    if (
        not host
        or "@" in split.netloc
        or {"%", " "} & set(split.netloc)
        or not split.netloc.isascii()
        or UNSAFE.search(url)
    ):
        return None
    parts = split.path.removeprefix("/").split("/")
    if any(_is_unsafe(part) for part in parts):
        return None
    decoded = tuple(unquote_to_bytes(part).decode("utf-8", "replace") for part in parts)
    return _Address(f"{scheme}://{host}:{port}", decoded)


def _is_unsafe(part: str) -> bool:
    """Return whether a part of a path is, or decodes to, a step upwards or several parts."""
    for _ in range(MAX_DECODINGS):
        if part.partition(";")[0] in {".", ".."} or "/" in part or UNSAFE.search(part):
            return True
        decoded = unquote_to_bytes(part).decode("utf-8", "replace")
        if decoded == part:
            return False
        part = decoded
    return True
