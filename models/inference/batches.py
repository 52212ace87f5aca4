"""Batch sizes: how many rows a model takes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def powers_of_two(count: int, largest: int) -> Iterator[slice]:
    """Split rows into runs of `largest` (a power of two), then of halves of it: 21 in eights is 8, 8, 4, 1.

    oneDNN compiles its kernels again for every shape, 50 ms for a model; so there are few shapes.
    """
    start, length = 0, largest
    while start < count:
        while length > count - start:
            length //= 2
        yield slice(start, start + length)
        start += length


def filled_batches(count: int, largest: int, spare: int) -> Iterator[tuple[slice, int]]:
    """Split rows as `powers_of_two` does, but pad the last run where that is cheaper than smaller runs.

    Args:
        count: how many rows there are.
        largest: rows of a run, at most; a power of two.
        spare: rows that may be added to one run, up to the overhead of a run in rows.

    Yields:
        The rows of a run, and the power of two that it is padded to: 13 with 6 to spare is one run of 16.
    """
    start = 0
    while start < count:
        left = count - start
        length = min(largest, 1 << (left - 1).bit_length())
        if length - left > spare:
            length //= 2
        yield slice(start, start + min(length, left)), length
        start += length
