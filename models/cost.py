"""Cost of a trunk and its branches: weights and multiply-adds, counted without computing anything.

Multiply-adds are those of convolutions and matrix products, from `torch.utils.flop_counter` (which counts each as two),
run over tensors that have shapes only. PyTorch's counter covers every form of these operations, grouped convolutions
among them, and sees what really runs, so that it cannot drift from the models as a counter of our own could. Sums,
activations, averaging and normalisation are not counted.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.branches import Branch, BranchSpec
from models.trunks.base import EMBEDDING_DEPTH
from models.trunks.registry import create_trunk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from models.trunks.base import Trunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a trunk or a branch."""

    weights: int
    """Numbers in convolutions and linear layers."""
    others: int
    """Other learnt numbers: batch normalisation, slopes of PReLU."""
    macs: int
    """Multiply-adds for one face."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Cost of a trunk and its branches."""

    trunk: Cost
    """Up to the embedding."""
    depths: dict[str, int]
    """Multiply-adds of the trunk up to each depth, in order."""
    branches: dict[str, Cost]
    """By task, without the layers that it shares."""
    specs: tuple[BranchSpec, ...]
    standard: int
    """Multiply-adds of the trunk if each depthwise convolution and the pointwise one behind it were one full one."""
    shared: dict[tuple[str, ...], Cost] = field(default_factory=dict)
    """Layers that branches share, by the tasks that read them."""

    def macs(self, tasks: Collection[str] | None = None, *, identity: bool = True) -> int:
        """Return the multiply-adds for a face with some heads on.

        Args:
            tasks: of the heads; None for all.
            identity: whether embeddings are computed; without, the trunk runs only as deep as the heads need.
        """
        chosen = [spec for spec in self.specs if tasks is None or spec.task in tasks]
        # A shortcut that relearnt layers read lies before their first depth.
        read = {depth for spec in chosen for depth in spec.depths} | ({EMBEDDING_DEPTH} if identity else set())
        deepest = max((self.depths[depth] for depth in read), default=0)
        shared = sum(
            cost.macs for tasks_of, cost in self.shared.items() if {spec.task for spec in chosen} & {*tasks_of}
        )
        return deepest + shared + sum(self.branches[spec.task].macs for spec in chosen)


def measure_cost(
    trunk_name: str, specs: tuple[BranchSpec, ...] = (), sharing: Sequence[tuple[str, ...]] | None = None
) -> ModelCost:
    """Count the cost of a trunk and branches on it.

    Args:
        trunk_name: of the trunk and its weights.
        specs: of the branches.
        sharing: the tasks that share layers, a tuple for each copy of these layers; None where weights are not known:
            then branches are taken to share layers of one shape.

    Raises:
        ReleaseError: the trunk is unknown to this program.
        ValueError: the trunk lacks a depth of a branch.
    """
    groups = _sharing_tasks(specs) if sharing is None else sharing
    with torch.device("meta"):
        trunk = create_trunk(trunk_name).eval()
        branches = {spec.task: Branch(spec, trunk.layout).eval() for spec in specs}
        depths = _depth_macs(trunk)
        costs = {task: _own_cost(branch, trunk) for task, branch in branches.items()}
        shared = {tasks: _shared_cost(branches[tasks[0]], trunk) for tasks in groups}
        whole = _cost(trunk, depths[EMBEDDING_DEPTH])
        standard = whole.macs + _saved_by_separation(trunk)
    return ModelCost(whole, depths, costs, specs, standard, shared)


def count_weights(module: nn.Module) -> int:
    """Count the numbers in convolutions and linear layers."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters(recurse=False))


def _cost(module: nn.Module, macs: int) -> Cost:
    weights = count_weights(module)
    return Cost(weights=weights, others=sum(p.numel() for p in module.parameters()) - weights, macs=macs)


def _depth_macs(trunk: Trunk) -> dict[str, int]:
    """Count the multiply-adds of a trunk up to each depth, in order: one pass in which the counter is read often."""
    depths: dict[str, int] = {}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        x = trunk.prepare(_no_crops(trunk))
        for depth, found in trunk.walk(x):
            depths[depth], x = int(counter.get_total_flops()) // 2, found
        trunk.embed(x)
        depths[EMBEDDING_DEPTH] = int(counter.get_total_flops()) // 2
    return depths


def _saved_by_separation(trunk: Trunk) -> int:
    """Count the multiply-adds that depthwise-separable convolutions save.

    A full convolution with kernels of D x D to N channels costs D * D times as many as the pointwise one to N channels;
    a depthwise one and a pointwise one together cost 1 / N + 1 / (D * D) of it.
    """
    separated: list[tuple[nn.Conv2d, int]] = []

    def note(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            separated.append((layer, output.numel() // len(output) * layer.weight[0].numel()))

    hooks = [layer.register_forward_hook(note) for layer in trunk.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        trunk(_no_crops(trunk))
    for hook in hooks:
        hook.remove()
    return sum(
        (first.weight[0, 0].numel() - 1) * pointwise_macs - depthwise_macs
        for (first, depthwise_macs), (second, pointwise_macs) in itertools.pairwise(separated)
        if first.groups == first.in_channels > 1 and second.kernel_size == (1, 1) and second.groups == 1
    )


def _no_crops(trunk: Trunk) -> torch.Tensor:
    return torch.empty(1, 3, trunk.layout.side, trunk.layout.side, dtype=torch.uint8)


def _sharing_tasks(specs: tuple[BranchSpec, ...]) -> list[tuple[str, ...]]:
    """Group the tasks whose branches have shared layers of one shape."""
    shapes = dict.fromkeys(spec.shared_shape for spec in specs if spec.shared)
    return [tuple(spec.task for spec in specs if spec.shared_shape == shape) for shape in shapes]


def _own_cost(branch: Branch, trunk: Trunk) -> Cost:
    """Count a branch without the layers that it shares."""
    maps = _maps(branch, trunk)
    if not branch.spec.shared:
        return _cost(branch, _count(lambda: branch(maps)))
    whole, shared = _cost(branch, _count(lambda: branch(maps))), _shared_cost(branch, trunk)
    return Cost(
        weights=whole.weights - shared.weights, others=whole.others - shared.others, macs=whole.macs - shared.macs
    )


def _shared_cost(branch: Branch, trunk: Trunk) -> Cost:
    maps = _maps(branch, trunk)
    return _cost(branch.shared_layers, _count(lambda: branch.shared(maps)))


def _maps(branch: Branch, trunk: Trunk) -> dict[str, torch.Tensor]:
    layout = trunk.layout
    shapes = {**layout.maps, EMBEDDING_DEPTH: (layout.embedding_size,)}
    return {depth: torch.empty(1, *shapes[depth]) for depth in branch.depths}


def _count(run: Callable[[], object]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2
