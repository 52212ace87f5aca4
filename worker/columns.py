"""Common base of the value types of the numpy stages: one leading dimension, checked once."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Columns:
    """Struct of arrays whose leading dimension N is the same: length, slicing and concatenation.

    For frozen slotted dataclasses whose fields are all arrays.
    """

    __slots__ = ()

    @classmethod
    @cache
    def _names(cls) -> tuple[str, ...]:
        """Return the names of the fields: a tracker slices faces frame by frame."""
        return tuple(field.name for field in fields(cls))  # type: ignore[arg-type]

    def _columns(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in self._names()}

    def _check(self, **tails: tuple[int, ...]) -> None:
        """Refuse columns of other shapes than ``(N, *tail)``; -1 in a tail stands for any size."""
        columns = self._columns()
        length = next(iter(columns.values())).shape[0]
        for name, column in columns.items():
            tail = tails.get(name, ())
            fits = column.shape == (length, *tail) or (
                column.shape[:1] == (length,)
                and len(column.shape) == len(tail) + 1
                and all(want in (-1, got) for got, want in zip(column.shape[1:], tail, strict=True))
            )
            if not fits:
                message = f"{type(self).__name__}.{name} has shape {column.shape}, expected {(length, *tail)}"
                raise ValueError(message)

    def __len__(self) -> int:
        return int(getattr(self, self._names()[0]).shape[0])

    def __getitem__(self, rows: slice | NDArray[Any]) -> Self:
        return type(self)(**{name: column[rows] for name, column in self._columns().items()})

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={column.shape}" for name, column in self._columns().items())
        return f"{type(self).__name__}({shapes})"

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join one or more values along N."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls._names()})
