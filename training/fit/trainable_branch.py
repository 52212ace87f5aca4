"""A branch while it is trained, with standardised inputs and dropout, which the shipped branch does not need."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.branches import Branch
from models.trunks.regions import first_answers
from models.trunks.sface import SFACE
from training.errors import TrainingError
from training.fit.losses import YEARS_DEVIATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.branches import BranchSpec
    from models.trunks.base import Trunk, TrunkLayout

_USUAL_AGE, _USUAL_SPREAD = 35.0, 20.0  # years; mean and deviation of ages, from which a regression starts
_MIN_SPREAD = 1e-3  # standard deviation of a feature below which it counts as constant


@torch.no_grad()
def follow_statistics(mean: nn.Module, now: nn.Module, decay: float) -> None:
    """Move the statistics of batch norm of a running mean towards those of a model."""
    for ours, theirs in zip(mean.buffers(), now.buffers(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1 - decay)
        else:
            ours.copy_(theirs)


@torch.no_grad()
def settle_statistics(module: nn.Module, run: Callable[[], object]) -> None:
    """Replace the statistics of batch norm by those of some examples: behind random weights maps have no known scale.

    Args:
        module: in training mode, but for parts whose statistics stay.
        run: runs it once, or several times, over the examples.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all that it sees
    run()
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


class YearsLayer(nn.Module):
    """Last layer that regresses one age, and answers with a Gaussian of YEARS_DEVIATION around it.

    Its logits are linear in the age but for a number that all of them share, so `linear` returns a layer with the same
    answers as any other branch of ages has, with a distribution that calibration makes wider or narrower.
    """

    years: Tensor

    def __init__(self, inputs: int, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.line = nn.Linear(inputs, 1)
        self.register_buffer("years", torch.tensor([float(label) for label in labels]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, K) float32 logits; bfloat16 would round the age to half a year."""
        with torch.autocast(x.device.type, enabled=False):
            age = self.line(x.float()) * _USUAL_SPREAD + _USUAL_AGE
            return torch.as_tensor(-0.5 * ((self.years - age) / YEARS_DEVIATION) ** 2)

    def linear(self) -> nn.Linear:
        """Return the layer of K outputs whose softmax is the same."""
        middle = self.years.mean()  # in the middle the numbers are smallest, and rounding to fp16 moves them least
        place = (self.years - middle) / YEARS_DEVIATION**2
        layer = nn.Linear(self.line.in_features, len(self.years), device=self.years.device)
        with torch.no_grad():
            layer.weight.copy_(place[:, None] * self.line.weight * _USUAL_SPREAD)
            age = self.line.bias * _USUAL_SPREAD + _USUAL_AGE
            layer.bias.copy_(place * (age - middle) - 0.5 * place**2 * YEARS_DEVIATION**2)
        return layer


class TrainableBranch(nn.Module):
    """Branch whose pooled features are brought to mean 0 and deviation 1 before its linear layers.

    The first examples fix the standardisation, so ``shipped`` can fold it into the first linear layer.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self, spec: BranchSpec, *, dropout: float, layout: TrunkLayout = SFACE, regresses: bool = False
    ) -> None:
        """Draw the weights.

        Args:
            spec: of the branch.
            dropout: on the pooled features and on hidden layers.
            layout: of the trunk.
            regresses: whether the last layer gives one number of years, in place of a share for each year.
        """
        super().__init__()
        self.branch = Branch(spec, layout)
        if regresses:
            self.layers[-1] = YearsLayer((spec.widths or (self.branch.feature_count,))[-1], spec.labels)
        self.only_first = spec.regions is not None
        """Whether only the first answers of a branch with regions learn, and answer: its regions are not found yet."""
        self.dropout = nn.Dropout(dropout)
        self.starts_from_trunk = False
        """Whether relearnt layers began as copies of the trunk's, with statistics of its own."""
        self.cells = spec.pool**2
        self.register_buffer("mean", torch.zeros(self.branch.feature_count))
        self.register_buffer("spread", torch.ones(self.branch.feature_count))

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Map features by depth to (B, K) logits."""
        return self.answers(maps)[0]

    def answers(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return (B, K) logits, and those of the first answers that learn beside them, if there are any."""
        regions = self.branch.regions
        if regions is not None and self.only_first:
            return first_answers(regions.responses(maps[self.branch.spec.depths[0]])), None
        features = self.branch.features(maps)
        x = self._drop_channels((features - self.mean) / self.spread)
        first, *rest = self.layers
        x = first(x)
        for layer in rest:
            x = layer(self.dropout(x) if isinstance(layer, nn.Linear | YearsLayer) else x)
        return torch.as_tensor(x), None if regions is None else regions.first_of(features)

    def _drop_channels(self, x: Tensor) -> Tensor:
        """Drop a channel in all cells at once: neighbouring cells are alike, and that takes nine times fewer draws."""
        if self.branch.regions is not None:
            return torch.as_tensor(self.dropout(x))
        if not self.training or x.shape[1] % self.cells:
            return x
        kept: Tensor = self.dropout(x.new_ones(len(x), x.shape[1] // self.cells))
        return (x.reshape(*kept.shape, self.cells) * kept[..., None]).flatten(1)

    @property
    def layers(self) -> nn.Sequential:
        """The linear layers and rectifiers; experts are trained one by one, as branches without any."""
        if not isinstance(self.branch.head, nn.Sequential):
            raise TypeError(f"branch {self.branch.spec.task!r} has experts, expected one of them alone")
        return self.branch.head

    def share_with(self, other: TrainableBranch) -> None:
        """Use the shared layers and the standardisation of another branch, which learn from both."""
        self.branch.share_with(other.branch)
        self.mean, self.spread = other.mean, other.spread

    @property
    def shared_parameters(self) -> int:
        """Number of the parameters, from the first on, that are shared."""
        return len(list(self.branch.shared_layers.parameters()))

    @torch.no_grad()
    def standardise(self, maps: Mapping[str, Tensor]) -> None:
        """Set mean and deviation of each pooled feature from some hundred examples."""
        if self.branch.tail is not None and not self.starts_from_trunk:
            settle_statistics(self.branch.tail, lambda: self.branch.features(maps))
            self.branch.tail.eval()
        features = self.branch.features(maps).float()
        self.branch.train(self.training)
        self.mean.copy_(features.mean(dim=0))
        self.spread.copy_(features.std(dim=0).clamp(min=_MIN_SPREAD))

    def start_from(self, trunk: Trunk) -> None:
        """Copy the trunk's layers, weights and statistics, into those that the branch relearns, if there are any."""
        if self.branch.tail is not None:
            self.branch.tail.copy_from(trunk)
            self.starts_from_trunk = True

    @torch.no_grad()
    def begin_as(self, shipped: Branch, offset: Tensor | None = None) -> None:
        """Take the weights of a shipped branch; the standardisation stays, and is taken out of its first layer.

        Args:
            shipped: of the same shape.
            offset: (K,) of the logits while training, which its answers have in them already; None for none.

        Raises:
            TrainingError: it has another shape, or the branch regresses one number.
        """
        try:
            self.branch.load_state_dict(shipped.state_dict())
        except RuntimeError as err:
            task = self.branch.spec.task
            raise TrainingError(
                f"the base's branch {task!r} has another shape, so no run can begin as it: {err}"
            ) from err
        first, last = self.layers[0], self.layers[-1]
        if not isinstance(first, nn.Linear) or not isinstance(last, nn.Linear):
            raise TrainingError(
                f"branch {self.branch.spec.task!r} regresses one number, so it cannot begin as a base's"
            )
        first.bias.add_(first.weight @ self.mean)
        first.weight.mul_(self.spread)
        if offset is not None:
            last.bias.sub_(offset)

    @torch.no_grad()
    def shipped(self) -> Branch:
        """Return the branch alone, with the standardisation folded into its first linear layer."""
        whole = copy.deepcopy(self).eval()
        layers = whole.layers
        if isinstance(layers[-1], YearsLayer):
            layers[-1] = layers[-1].linear()
        first = layers[0]
        if not isinstance(first, nn.Linear):
            raise TypeError(f"the first layer of a head is a {type(first).__name__}, expected Linear")
        first.weight.div_(self.spread)
        first.bias.sub_(first.weight @ self.mean)
        return whole.branch
