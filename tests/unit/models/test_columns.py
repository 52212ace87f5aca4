"""The base of all structs of arrays, with tensors and with numpy arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from models.types import TensorColumns
from worker.columns import ArrayColumns


@dataclass(frozen=True, slots=True, repr=False)
class Tensors(TensorColumns):
    number: Any
    boxes: Any

    def __post_init__(self) -> None:
        self._check(boxes=(-1, 3))


@dataclass(frozen=True, slots=True, repr=False)
class Arrays(ArrayColumns):
    number: Any
    boxes: Any

    def __post_init__(self) -> None:
        self._check(boxes=(-1, 3))


KINDS = [(Tensors, torch.arange, torch.zeros), (Arrays, np.arange, np.zeros)]


@pytest.mark.parametrize(("kind", "arange", "zeros"), KINDS)
def test_slices_and_joins_along_the_leading_dimension(kind: Any, arange: Any, zeros: Any) -> None:
    value = kind(arange(5), zeros((5, 2, 3)))
    joined = kind.cat([value[3:], value[arange(2)]])
    assert joined.number.tolist() == [3, 4, 0, 1]
    assert len(joined) == 4
    assert repr(joined) == f"{kind.__name__}(number=(4,), boxes=(4, 2, 3))"


@pytest.mark.parametrize(("kind", "arange", "zeros"), KINDS)
@pytest.mark.parametrize("shape", [(4, 2, 3), (5, 2, 7), (5, 3), (5, 2, 3, 1)])
def test_refuses_a_column_of_another_shape(kind: Any, arange: Any, zeros: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.boxes has shape .*, expected \(5, -1, 3\)"):
        kind(arange(5), zeros(shape))
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.number has shape .*, expected \(5,\)"):
        kind(zeros((5, 1)), zeros((5, 2, 3)))
