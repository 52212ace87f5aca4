"""The base of all structs of arrays: one leading dimension, checked once. It imports neither numpy nor torch."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class Columns:
    """Struct of arrays whose leading dimension N is the same: length, slicing and concatenation.

    For frozen slotted dataclasses whose fields are all arrays. `models.types.TensorColumns` and
    `worker.columns.ArrayColumns` join their kind of array.
    """

    __slots__ = ()

    @staticmethod
    def _join(parts: Sequence[Any]) -> Any:
        """Concatenate arrays along their leading dimension."""
        raise NotImplementedError

    @classmethod
    @cache
    def _names(cls) -> tuple[str, ...]:
        """Return the names of the fields. Cached, because a tracker slices faces frame by frame."""
        return tuple(field.name for field in fields(cls))  # type: ignore[arg-type]

    def _columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names()}

    def _check(self, **tails: tuple[int, ...]) -> None:
        """Refuse columns whose shape is not ``(N, *tail)``; -1 in a tail stands for any size.

        Raises:
            ValueError: a column has another shape.
        """
        columns = self._columns()
        length = next(iter(columns.values())).shape[0]
        for name, column in columns.items():
            shape, expected = tuple(column.shape), (length, *tails.get(name, ()))
            fits = len(shape) == len(expected) and all(
                want in (-1, got) for got, want in zip(shape, expected, strict=True)
            )
            if not fits:
                raise ValueError(f"{type(self).__name__}.{name} has shape {shape}, expected {expected}")

    def __len__(self) -> int:
        return int(getattr(self, self._names()[0]).shape[0])

    def __getitem__(self, rows: Any) -> Self:
        return type(self)(**{name: column[rows] for name, column in self._columns().items()})

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={tuple(column.shape)}" for name, column in self._columns().items())
        return f"{type(self).__name__}({shapes})"

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join one or more values along N."""
        return cls(**{name: cls._join([getattr(part, name) for part in parts]) for name in cls._names()})
