"""What may be read at all: the folders and URLs of ``FACET_MEDIA_ROOTS``, and whether something lies below one of them.

An address is compared as the server will understand it, and refused where there is doubt: one that decodes, once or
again, to a step upwards (with parameters, as in ``..;x``, too), a separator or a control character lies below nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_PORTS = {"http": 80, "https": 443}
"""Of the schemes whose address names a host, decodes its path and has a query; others name keys as they are."""
UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
MAX_DECODINGS = 4
"""Times that a path is decoded, as servers behind servers do."""

Address = tuple[str, tuple[str, ...]]
"""Scheme with host and port, and the parts of the path."""


def within(url: str, roots: Sequence[str]) -> bool:
    """Whether a URL lies below one of the roots that are URLs, whichever way it is spelt."""
    address = _address(url)
    return address is not None and any(_covers(_address(root), address) for root in roots if "://" in root)


def local_roots(roots: Sequence[str]) -> list[Path]:
    """Return the folders among the roots, links resolved."""
    return [Path(root).resolve() for root in roots if "://" not in root]


def is_below(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a path leads below one of some resolved folders."""
    real = path.resolve()
    return any(real.is_relative_to(folder) for folder in folders)


def place_of_open(descriptor: int) -> Path:
    """Return where an open file lies, by whichever links it was reached."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _covers(root: Address | None, address: Address) -> bool:
    if root is None:
        return False
    base = tuple(part for part in root[1] if part)
    return root[0] == address[0] and base == address[1][: len(base)]


def _address(url: str) -> Address | None:
    """Return the parts that are compared, None for a URL that may mean something else than it says."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme in DEFAULT_PORTS:
        return _web_address(url, scheme)
    parts = rest.lstrip("/").split("/")
    return None if any(_is_unsafe(part) for part in parts) else (scheme, tuple(parts))


def _web_address(url: str, scheme: str) -> Address | None:
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
    return f"{scheme}://{host}:{port}", tuple(unquote_to_bytes(part).decode("utf-8", "replace") for part in parts)


def _is_unsafe(part: str) -> bool:
    """Whether a part of a path is, or decodes to, a step or more than one part."""
    for _ in range(MAX_DECODINGS):
        if part.partition(";")[0] in {".", ".."} or "/" in part or UNSAFE.search(part):
            return True
        decoded = unquote_to_bytes(part).decode("utf-8", "replace")
        if decoded == part:
            return False
        part = decoded
    return True
