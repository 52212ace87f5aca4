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
