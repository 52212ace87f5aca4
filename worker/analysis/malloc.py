"""Settings of glibc's malloc for the process that runs the model."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
KEPT_BYTES = 1 << 30
PAD_BYTES = 64 << 20


def keep_freed_blocks() -> None:
    """Make glibc keep freed blocks, up to 1 GB.

    By default it returns every large block to the system after each batch, and the next batch pays for clearing the
    same pages again: 60 instead of 136 faces per second were measured on two cores. Does nothing on other systems.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        for option, value in ((M_MMAP_THRESHOLD, KEPT_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, PAD_BYTES)):
            mallopt(option, value)


def trim() -> None:
    """Return the blocks that are free now to the system; otherwise they fragment, and memory grows for hours."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of glibc; None on other systems and with musl, which lacks them."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
