"""Receptive fields: the rectangle of the crop that one place of a trunk's map sees.

Convolutions and pooling slide a window over a map, so along each axis a place of a later map sees a stretch of pixels
that follows from kernels, strides and padding alone. The windows of a trunk are those that really run: its layers are
applied to tensors that have shapes only, and each operation is noted, as `models.cost` counts multiply-adds. Sums and
concatenations see all that their parts see. A gate, one number for a whole channel, says nothing of where: it is left
out, although it reads the whole crop.

Source: the usual recurrences, such as in Dumoulin and Visin 2016, 'A guide to convolution arithmetic for deep
learning'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.trunks.base import TRUNKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.trunks.base import TrunkLayout

Rectangle = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of a crop; the last column and row are not part of it


@dataclass(frozen=True, slots=True)
class Window:
    """A convolution or pooling along one axis."""

    kernel: int
    stride: int = 1
    padding: int = 0
    """Cells before the first one."""
    dilation: int = 1

    @property
    def extent(self) -> int:
        """Cells from the first to the last that one place reads."""
        return (self.kernel - 1) * self.dilation + 1


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The pixels that each place of a map sees along one axis; those of place i begin at `start + i * step`."""

    start: int = 0
    """First pixel that place 0 sees; negative where that is padding."""
    size: int = 1
    """Pixels that a place sees."""
    step: int = 1
    """Pixels between neighbouring places."""

    def behind(self, window: Window) -> ReceptiveField:
        """Return the field of the map that a window makes of this one."""
        return ReceptiveField(
            start=self.start - window.padding * self.step,
            size=self.size + (window.extent - 1) * self.step,
            step=self.step * window.stride,
        )

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Return the field of a map that sees all that two maps of one step see.

        Raises:
            ValueError: their steps differ.
        """
        if self.step != other.step:
            message = f"maps with a place every {self.step} and every {other.step} pixels cannot be joined: resize one"
            raise ValueError(message)
        start = min(self.start, other.start)
        return ReceptiveField(start, max(self.start + self.size, other.start + other.size) - start, self.step)

    @property
    def centre(self) -> float:
        """Where the pixels of place 0 have their middle, in pixels from the crop's edge."""
        return self.start + self.size / 2

    def stretch(self, first: int, last: int, side: int) -> tuple[int, int]:
        """Return the pixels, of a crop of `side`, that some neighbouring places see: the first, and the one behind."""
        begin = self.start + first * self.step
        end = self.start + last * self.step + self.size
        return min(max(begin, 0), side), min(max(end, 0), side)

    def rectangle(self, row: int, column: int, side: int) -> Rectangle:
        """Return the rectangle of a square crop that one place of a map sees, where both axes have this field."""
        (x0, x1), (y0, y1) = self.stretch(column, column, side), self.stretch(row, row, side)
        return x0, y0, x1, y1


def field_behind(windows: Iterable[Window]) -> ReceptiveField:
    """Return the field of a map behind some windows, one after the other."""
    field = ReceptiveField()
    for window in windows:
        field = field.behind(window)
    return field


def receptive_field(layout: TrunkLayout, depth: str) -> ReceptiveField:
    """Return the field of a trunk's map, along either axis; nothing is computed.

    Args:
        layout: of a registered family of trunks.
        depth: one of its maps.

    Raises:
        ValueError: the depth has no map, the family is unknown, or it treats rows and columns differently.
    """
    if depth not in layout.maps:
        message = f"depth {depth!r} has no map, expected one of {', '.join(layout.maps)}"
        raise ValueError(message)
    if layout.family not in TRUNKS:
        message = f"no trunk {layout.family!r} to take windows of, expected one of {', '.join(TRUNKS)}"
        raise ValueError(message)
    with torch.device("meta"), torch.no_grad():
        trunk = TRUNKS[layout.family](layout).eval()
        crops = torch.empty(1, 3, layout.side, layout.side, dtype=torch.uint8)
        traced = _Tracing(crops, layout.side)
        with traced:
            found = trunk.forward_intermediates(crops, (depth,))[depth]
    return traced.field(found)


class _Tracing(TorchDispatchMode):
    """Notes the field of each tensor that is made of some crops."""

    def __init__(self, crops: Tensor, side: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._side = side
        self._fields: dict[int, ReceptiveField] = {id(crops): ReceptiveField()}
        self._kept = [crops]  # so that no other tensor gets its number

    def field(self, tensor: Tensor) -> ReceptiveField:
        """Return the field of a tensor."""
        return self._fields[id(tensor)]

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        read = [x for x in tree_leaves(args) if isinstance(x, Tensor) and id(x) in self._fields]
        made = [x for x in tree_leaves(found) if isinstance(x, Tensor)]
        if read and made:
            field = self._behind(func.__name__.partition(".")[0], args, read, made[0])
            self._fields |= {id(x): field for x in made}
            self._kept += made
        return found

    def _behind(self, name: str, args: tuple[Any, ...], read: list[Tensor], made: Tensor) -> ReceptiveField:
        """Return the field of the result of an operation.

        Args:
            name: of the operation.
            args: of it.
            read: tensors among them that have fields.
            made: the result.
        """
        shaped = [x for x in read if x.dim() == 4 and x.shape[2:] == made.shape[2:]] if len(read) > 1 else []
        field, *others = (self._fields[id(x)] for x in shaped or read)
        for other in others:
            field = field.joined(other)
        if made.dim() == 4 and made.shape[2:] == (1, 1) and read[0].shape[2:] != (1, 1) and name not in _WINDOWS:
            return ReceptiveField(0, self._side, self._side)  # a mean over the whole map
        return field.behind(_WINDOWS[name](args)) if name in _WINDOWS else field


def _convolution(args: tuple[Any, ...]) -> Window:
    _, weight, _, stride, padding, dilation, *_ = args
    return Window(_equal(weight.shape[2:]), _equal(stride), _equal(padding), _equal(dilation))


def _pooling(args: tuple[Any, ...]) -> Window:
    kernel = _equal(args[1])
    stride = _equal(args[2]) if len(args) > 2 and args[2] else kernel
    return Window(kernel, stride, _equal(args[3]) if len(args) > 3 else 0)


def _padding(args: tuple[Any, ...]) -> Window:
    before = args[1][0:4:2]  # of the columns and, where there are some, of the rows
    return Window(1, padding=_equal(before if len(before) > 1 else (*before, 0)))


# Operations with a window, by name, with the function that reads it from their arguments.
_WINDOWS: dict[str, Callable[[tuple[Any, ...]], Window]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
    "constant_pad_nd": _padding,
}


def _equal(sizes: Any) -> int:
    """Return the one size of both axes."""
    found = {int(size) for size in ([sizes] if isinstance(sizes, int) else sizes)}
    if len(found) != 1:
        message = f"a window has sizes {sorted(found)}, expected the same along both axes"
        raise ValueError(message)
    return found.pop()
