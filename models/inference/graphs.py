"""CUDA graphs: a model's kernels, recorded once for each shape and started together.

A GPU computes a batch of faces faster than a CPU can start the many small kernels of the heads one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_WARM_UP = 3  # runs before recording, as PyTorch's documentation asks for: libraries choose their kernels in them


@dataclass(frozen=True, slots=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    given: Tensor
    found: Tensor


class Graphed:
    """A function of one CUDA tensor whose kernels depend on its shape alone.

    All recordings share their memory, so they need as much as the largest one; an output has to be copied before the
    next replay.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._recordings: dict[torch.Size, _Recording] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the value of the function."""
        if x.shape not in self._recordings:
            self._recordings[x.shape] = self._record(x)
        recording = self._recordings[x.shape]
        recording.given.copy_(x)
        recording.graph.replay()
        return recording.found.clone()

    def _record(self, x: Tensor) -> _Recording:
        """Record the function. Source: PyTorch's documentation of CUDA graphs, "whole-network capture"."""
        with torch.cuda.device(x.device):  # graphs are recorded on the current one, which may be another GPU
            given = x.clone()
            aside = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream(x.device))
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._function(given)
            torch.cuda.current_stream(x.device).wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                found = self._function(given)
        return _Recording(graph, given, found)
