"""Common base of the value types of the numpy stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class ArrayColumns(Columns):
    """Struct of numpy arrays whose leading dimension N is the same."""

    __slots__ = ()

    @staticmethod
    def _join(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(parts)
