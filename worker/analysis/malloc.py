"""Memory of the process that runs the network."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
KEPT_BYTES = 1 << 30
PAD_BYTES = 64 << 20


def keep_heap() -> None:
    """Tell glibc to keep blocks that were freed, up to 1 GB.

    It otherwise gives every large block back to the system after each batch, and the next batch pays for clearing the
    same pages again: 60 instead of 136 faces per second were measured on two cores. Does nothing on other systems.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        for option, value in ((M_MMAP_THRESHOLD, KEPT_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, PAD_BYTES)):
            mallopt(option, value)


def trim_heap() -> None:
    """Give back what is free at this moment: what was kept would otherwise scatter, and grow for hours."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of glibc; None on other systems and with musl, which has none of these."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
