"""How many rows a network takes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def powers_of_two(count: int, largest: int) -> Iterator[slice]:
    """Split rows into runs of `largest` (a power of two), then of halves of it: 21 in eights is 8, 8, 4, 1.

    oneDNN compiles its kernels anew for every shape it meets, 50 ms for a network; so there are few shapes.
    """
    start, length = 0, largest
    while start < count:
        while length > count - start:
            length //= 2
        yield slice(start, start + length)
        start += length


def filled_batches(count: int, largest: int, spare: int) -> Iterator[tuple[slice, int]]:
    """Split rows as `powers_of_two` does, but fill the last run up where that is cheaper than further, smaller ones.

    Args:
        count: how many rows there are.
        largest: rows of a run, at most; a power of two.
        spare: rows that may be added to one run: with fewer than these a run costs more for itself than for its rows.

    Yields:
        The rows of a run, and the power of two up to which it is filled: 13 with 6 to spare is one run of 16.
    """
    start = 0
    while start < count:
        left = count - start
        length = min(largest, 1 << (left - 1).bit_length())
        if length - left > spare:
            length //= 2
        yield slice(start, start + min(length, left)), length
        start += length
