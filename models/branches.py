"""Branches: small models, one an attribute, each of which leaves the trunk at a depth of its own.

A branch averages maps of the trunk over a grid of P x P cells and reads them with one or more linear layers. Before
that it may run layers of its own on the first of these maps, in place of the trunk's later ones: layers shaped like
these, relearnt for the task, narrower convolutions, or layers that read the region of each label. Branches of one data
set may share their first linear layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.trunks.base import EMBEDDING_DEPTH, Tail
from models.trunks.regions import Regions, RegionSpec
from models.trunks.sface import SFACE, Separable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.trunks.base import TrunkLayout

Kind = Literal["softmax", "age", "multilabel"]
Routing = Literal["weighted", "hard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchSpec:
    """Everything about a branch except its weights; part of a release's manifest."""

    task: str
    """gender, age, ethnicity, emotion, attributes, ..."""
    kind: Kind
    """softmax: one label of K. age: a distribution over years, labelled by number. multilabel: K times yes or no."""
    labels: tuple[str, ...]
    """K names, in the order of the outputs."""
    depths: tuple[str, ...]
    """Where the branch leaves the trunk, of its layout's depths; features of several depths are concatenated."""
    stages: tuple[tuple[int, int], ...] = ()
    """(outputs, stride) of each own depthwise-separable layer. They run on the map of the first depth and
    replace it; the other depths are read as they are."""
    relearnt_to: str | None = None
    """Depth up to which the branch has own layers, shaped like the trunk's behind the first depth and relearnt for the
    task. Their map replaces that of the first depth; the other depths are read as they are. None for none."""
    regions: RegionSpec | None = None
    """Layers that read the region of each label in the map of the first depth; their features replace that map's, the
    other depths are read as they are. The regions are in the branch's file. None for none."""
    pool: int = 1
    """Side P of the grid over which maps are averaged; the embedding is not averaged."""
    hidden: int | tuple[int, ...] = 0
    """Width of the layer between features and outputs, or of several in order; 0 for none."""
    shared: int = 0
    """How many of the hidden layers, from the first on, the branch shares with others that read the same features.
    Each branch has a copy of them in its file, so that it works alone; equal copies are computed once."""
    experts: tuple[str, ...] = ()
    """Labels of a first decision, such as male and female, for each of which the branch has linear layers of its own;
    layers of the same form decide between these labels. Empty for one set of layers."""
    routing: Routing = "weighted"
    """weighted: the answers of all experts, by the probabilities of their labels. hard: that of the likeliest."""
    leak: float | None = None
    """Slope of the leaky rectifiers behind hidden layers; None for learnt slopes (PReLU)."""
    temperature: float = 1.0
    """Logits are divided by it."""
    abstain: float | None = None
    """The answer is 'unknown' where the highest probability is lower (softmax) or where the central 80 % interval is
    wider, in years (age); None never abstains."""
    thresholds: tuple[float, ...] = ()
    """The probability from which each label counts as present: of a multilabel branch, and of a softmax branch where it
    is read label by label, so a face may get two labels or none."""

    def __post_init__(self) -> None:
        if isinstance(self.hidden, tuple) and len(self.hidden) < 2:  # one form for one shape: fingerprints cover it
            object.__setattr__(self, "hidden", self.hidden[0] if self.hidden else 0)
        for problem in self._problems():
            message = f"branch {self.task!r}: {problem}"
            raise ValueError(message)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers, in order."""
        if isinstance(self.hidden, tuple):
            return self.hidden
        return (self.hidden,) if self.hidden else ()

    @property
    def shared_shape(self) -> tuple[object, ...] | None:
        """Everything that decides the shape of the shared layers, equal in all branches that share them; None: none."""
        return (self.depths, self.pool, self.leak, self.widths[: self.shared]) if self.shared else None

    def feature_count(self, layout: TrunkLayout) -> int:
        """Return the length of the vector that the linear layers read on a trunk of this layout."""
        read = self.depths[1:] if self.has_own_layers else self.depths
        own = self.stages[-1][0] * self.pool**2 if self.stages else 0
        own += layout.feature_count(self.relearnt_to, self.pool) if self.relearnt_to else 0
        own += self.regions.feature_count(len(self.labels)) if self.regions else 0
        return own + sum(layout.feature_count(depth, self.pool) for depth in read)

    @property
    def has_own_layers(self) -> bool:
        """Whether layers of the branch's own run on the map of the first depth, and replace it."""
        return bool(self.stages or self.relearnt_to or self.regions)

    def reads(self, layout: TrunkLayout) -> tuple[str, ...]:
        """Return the depths whose maps the branch reads: its own and, where relearnt layers need it, a shortcut's."""
        behind = layout.read_behind(self.depths[0]) if self.relearnt_to else ()
        return tuple(dict.fromkeys((*self.depths, *behind)))

    def check_fits(self, layout: TrunkLayout) -> None:
        """Refuse a trunk that lacks a depth of the branch.

        Raises:
            ValueError: a depth is unknown, the own layers' depth has no map, or no layer lies there to relearn.
        """
        for depth in self.depths:
            layout.rank(depth)
        if (self.stages or self.regions) and self.depths[0] not in layout.maps:
            message = f"branch {self.task!r}: own stages and regions need a map, {self.depths[0]!r} has none"
            raise ValueError(message)
        if self.relearnt_to:
            layout.between(self.depths[0], self.relearnt_to)

    def _problems(self) -> list[str]:
        checks = {
            "needs at least one label and one depth": bool(self.labels and self.depths),
            "depths must differ": len(set(self.depths)) == len(self.depths),
            "has own stages, relearnt layers or regions, not several": sum(
                map(bool, (self.stages, self.relearnt_to, self.regions))
            )
            < 2,
            "regions are of labels that are read one by one": not self.regions or self.kind == "multilabel",
            "pool, temperature must be positive": self.pool > 0 and self.temperature > 0,
            "thresholds must be given for each label or not at all": len(self.thresholds) in {0, len(self.labels)},
            "hidden layers must have a positive width": all(width > 0 for width in self.widths),
            "shares hidden layers that it has, and none behind own layers": 0 <= self.shared <= len(self.widths)
            and not (self.shared and self.has_own_layers),
            "experts decide between two labels or more": len(self.experts) != 1,
            "experts answer with one label, and share no layers": not self.experts
            or (self.kind != "multilabel" and not self.shared),
            "labels of an age must be years one apart": self.kind != "age" or _are_years(self.labels),
        }
        return [problem for problem, fine in checks.items() if not fine]


class Branch(nn.Module):
    """Maps of the trunk to the logits of one task."""

    def __init__(self, spec: BranchSpec, layout: TrunkLayout = SFACE) -> None:
        """Build a branch with random weights.

        Args:
            spec: its description.
            layout: of the trunk that it reads.

        Raises:
            ValueError: the trunk lacks a depth of the branch.
        """
        super().__init__()
        spec.check_fits(layout)
        self.spec = spec
        self.feature_count = spec.feature_count(layout)
        self.depths = spec.reads(layout)
        self.stages = nn.Sequential(*_stages(spec, layout))
        self.tail = Tail(layout, spec.depths[0], spec.relearnt_to) if spec.relearnt_to else None
        self.regions = Regions(spec.regions, len(spec.labels), layout, spec.depths[0]) if spec.regions else None
        self._behind = layout.read_behind(spec.depths[0])
        self.whole = self._behind if spec.relearnt_to else spec.depths[: bool(spec.stages or spec.regions)]
        self.head: nn.Sequential | Experts
        if spec.experts:
            self.head = Experts(spec, self.feature_count)
        else:
            self.head = nn.Sequential(*_linear_layers(spec, self.feature_count))

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Return (N, K) float32 logits.

        Args:
            maps: result of `Trunk.forward_intermediates` for at least the branch's `depths`. Maps that own layers do
                not read may be `averaged` already.
        """
        if isinstance(self.head, Experts):
            return torch.as_tensor(self.head(self.features(maps)))
        if not self.spec.shared:
            return self.linear(self.features(maps))
        return self.behind_shared(self.shared(maps))

    def shared(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Return the (N, width) float32 outputs of the shared layers."""
        return self.linear(self.features(maps), last=2 * self.spec.shared)

    def behind_shared(self, x: Tensor) -> Tensor:
        """Return the (N, K) float32 logits from the outputs of the shared layers."""
        return self.linear(x, first=2 * self.spec.shared)

    def linear(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Run some of the linear layers and rectifiers, each counted."""
        return in_order(self._layers[first:last], x)

    @property
    def _layers(self) -> nn.Sequential:
        if isinstance(self.head, Experts):
            message = f"branch {self.spec.task!r} has experts, so its layers are not in one order"
            raise TypeError(message)
        return self.head

    @property
    def shared_layers(self) -> nn.Sequential:
        """The layers that are shared with other branches."""
        return self._layers[: 2 * self.spec.shared]

    def share_with(self, other: Branch) -> None:
        """Use the shared layers of another branch in place of the own copy."""
        for place in range(2 * self.spec.shared):
            self._layers[place] = other._layers[place]

    def features(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Return the (N, feature_count) vectors that the linear layers read, depth after depth, (C, P, P) in each."""
        first, *others = (maps[depth] for depth in self.spec.depths)
        own = self._own_layers(first, maps[self._behind[-1]])
        parts = [averaged(x, self.spec.pool) for x in (own, *others)]
        return torch.cat([part.to(self.dtype) for part in parts], 1)

    def _own_layers(self, first: Tensor, entered: Tensor) -> Tensor:
        """Run the layers of the branch's own, if any, on the first map; relearnt ones read that of a shortcut, too."""
        if self.regions is not None:
            return torch.as_tensor(self.regions(first))
        return torch.as_tensor(self.stages(first) if self.tail is None else self.tail(first, entered))

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the first linear layer."""
        return next(self.head.parameters()).dtype

    def set_trunk_precision(self, dtype: torch.dtype) -> None:
        """Run wide layers in the trunk's precision: own layers, and the layer from maps to a hidden layer.

        The others stay float32: they are small, and logits and stored embeddings need the precision.
        """
        self.stages.to(dtype).to(memory_format=torch.channels_last)
        if self.tail is not None:
            self.tail.to(dtype).to(memory_format=torch.channels_last)
        if self.regions is not None:
            self.regions.set_precision(dtype)
        if self.spec.hidden and self.spec.depths != (EMBEDDING_DEPTH,):
            for layers in self.head.parts if isinstance(self.head, Experts) else (self.head,):
                layers[0].to(dtype)


class Experts(nn.Module):
    """Linear layers for each label of a first decision, and those that decide; their answers are one distribution."""

    def __init__(self, spec: BranchSpec, features: int) -> None:
        super().__init__()
        gate = replace(spec, kind="softmax", labels=spec.experts, experts=(), abstain=None, thresholds=())
        self.gate = nn.Sequential(*_linear_layers(gate, features))
        self.answers = nn.ModuleList(nn.Sequential(*_linear_layers(spec, features)) for _ in spec.experts)
        self._hard = spec.routing == "hard"

    @property
    def parts(self) -> tuple[nn.Sequential, ...]:
        """The layers that decide, then those of each label."""
        return (self.gate, *(part for part in self.answers if isinstance(part, nn.Sequential)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, features) to (N, K) float32 logarithms of probabilities."""
        decided, *answers = (in_order(layers, x).log_softmax(1) for layers in self.parts)
        every = torch.stack(answers, 1)
        if self._hard:
            return every[torch.arange(len(every), device=every.device), decided.argmax(1)]
        return (decided[:, :, None] + every).logsumexp(1)


def in_order(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Run linear layers and rectifiers, of which the first may be in the trunk's precision: float32."""
    for layer in layers:
        x = layer(x).float()
    return x


def averaged(x: Tensor, pool: int) -> Tensor:
    """Average (N, C, h, w) maps over a grid of cells and flatten them.

    Args:
        x: maps; an embedding or averaged maps have two dimensions and stay as they are.
        pool: cells along each side.

    Returns:
        (N, C * pool * pool), cells of a channel side by side.
    """
    if x.dim() == 4 and x.shape[-1] != pool:
        x = functional.adaptive_avg_pool2d(x, pool)
    return x.flatten(1)


def sharing(branches: Iterable[Branch]) -> dict[str, Branch]:
    """Return by task the branch whose shared layers serve it: the first one with the same; only of those that share."""
    firsts: list[Branch] = []
    found: dict[str, Branch] = {}
    for branch in branches:
        if not branch.spec.shared:
            continue
        first = next((other for other in firsts if _same_shared(other, branch)), branch)
        if first is branch:
            firsts.append(branch)
        found[branch.spec.task] = first
    return found


def _same_shared(one: Branch, other: Branch) -> bool:
    if one.spec.shared_shape != other.spec.shared_shape:
        return False
    pairs = zip(one.shared_layers.state_dict().values(), other.shared_layers.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def _linear_layers(spec: BranchSpec, features: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = features
    for width in spec.widths:
        rectifier = nn.PReLU(width) if spec.leak is None else nn.LeakyReLU(spec.leak)
        layers += [nn.Linear(inputs, width), rectifier]
        inputs = width
    return [*layers, nn.Linear(inputs, len(spec.labels))]


def _stages(spec: BranchSpec, layout: TrunkLayout) -> list[nn.Module]:
    stages: list[nn.Module] = []
    inputs = layout.maps[spec.depths[0]][0] if spec.stages else 0
    for outputs, stride in spec.stages:
        stages.append(Separable(inputs, outputs, stride))
        inputs = outputs
    return stages


def _are_years(labels: tuple[str, ...]) -> bool:
    return all(label.isdecimal() for label in labels) and [int(x) - int(labels[0]) for x in labels] == [
        *range(len(labels))
    ]
