"""Cuts a film into the time ranges that are units of work."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.values import MediaInfo

SHORTEST_PART = 0.1
"""Of a range: what is left over at the end and shorter than this joins the range before."""
MOST_RANGES = 100_000
"""A header that claims years is not believed: the ranges get longer instead."""


def plan_ranges(info: MediaInfo, range_seconds: float) -> list[tuple[float | None, float | None]]:
    """Return half-open ranges ``start <= t < end`` that cover a file without gap or overlap.

    The first starts and the last ends with the file, whatever its header says: headers are often wrong by a few
    frames. A still, and a film that does not say how long it is, is one range.

    Args:
        info: what the file says of itself.
        range_seconds: length of a range.
    """
    duration = info.duration_seconds
    if info.kind == "image" or duration is None or not math.isfinite(duration):
        return [(None, None)]
    length = max(range_seconds, duration / MOST_RANGES)
    count = max(math.ceil(duration / length - SHORTEST_PART), 1)
    borders: list[float | None] = [None, *(number * length for number in range(1, count)), None]
    return list(itertools.pairwise(borders))
