"""Regions: layers of a branch that find where each label shows in a face, and read the map of the trunk there.

For each label a small response network answers how much of the label each place of the map shows; the mean of its
greatest and its average response is a first answer. Training takes the places of high response back to rectangles of
the crop by the receptive field of the map, and averages them over aligned faces: one region a label, kept with the
weights. The map is warped to each region, and its greatest values go through small convolutions of this label alone;
their greatest outputs, together with the first answers of all labels, are features of the branch.

Source: a published cascade over the regions that are associated with facial attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.trunks.receptive_fields import receptive_field
from models.trunks.sface import Layer

if TYPE_CHECKING:
    from models.trunks.base import TrunkLayout

_POOL = 2  # cells along each side of which the greatest value is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSpec:
    """Shape of the layers that find and read the regions of labels; part of a branch's description."""

    channels: int = 64
    """Of the map that the trunk's is narrowed to; all labels read it."""
    hidden: int = 4
    """Channels of each label's response network between its two layers."""
    cells: int = 6
    """Along each side of a region, to which the map is warped; even."""
    width: int = 16
    """Channels of the convolutions of each label, so features of its region."""

    def __post_init__(self) -> None:
        if min(self.channels, self.hidden, self.cells, self.width) < 1 or self.cells % _POOL:
            message = f"regions need positive sizes and an even number of cells, got {self}"
            raise ValueError(message)

    def feature_count(self, labels: int) -> int:
        """Return the number of features of so many labels."""
        return labels * (self.width + 1)


class Regions(nn.Module):
    """A map of the trunk to features of each label's region, and to a first answer for each label."""

    boxes: Tensor
    """(K, 4) x0, y0, x1, y1 of each label's region in whole pixels of the aligned crop, which float16 holds exactly."""

    def __init__(self, spec: RegionSpec, labels: int, layout: TrunkLayout, depth: str) -> None:
        """Draw the weights; until training finds regions, each is the whole crop.

        Args:
            spec: of the layers.
            labels: their number K.
            layout: of the trunk; its family must be registered.
            depth: of the map.
        """
        super().__init__()
        self.spec, self.labels = spec, labels
        self.narrow = Layer((layout.maps[depth][0], spec.channels, 1))
        last = nn.Conv2d(labels * spec.hidden, labels, 1, groups=labels)
        self.respond = nn.Sequential(Layer((spec.channels, labels * spec.hidden, 1)), last)
        first = Layer((labels * spec.channels, labels * spec.width, 3), groups=labels)
        self.refine = nn.Sequential(first, Layer((labels * spec.width, labels * spec.width, 1), groups=labels))
        self.register_buffer("boxes", torch.tensor([[0.0, 0.0, layout.side, layout.side]]).repeat(labels, 1))
        self.field = receptive_field(layout, depth)
        """Of the map, which is that of the responses."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, K * width + K): features of each region, label after label, then first answers."""
        x = self.narrow(x)
        refined = self.refine(functional.max_pool2d(self.warped(x), _POOL))
        return torch.cat([refined.amax((2, 3)), first_answers(self.respond(x))], 1)

    def first_of(self, features: Tensor) -> Tensor:
        """Return the (N, K) first answers among the (N, ...) features of a branch, which begin with these layers'."""
        end = self.spec.feature_count(self.labels)
        return features[:, end - self.labels : end]

    def responses(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, K, h, w): how much of each label each place shows."""
        return torch.as_tensor(self.respond(self.narrow(x)))

    def warped(self, x: Tensor) -> Tensor:
        """Warp (N, C, h, w) narrowed maps to the regions: (N, K * C, cells, cells), label after label."""
        from torchvision.ops import roi_align  # noqa: PLC0415 - importing it takes a second, which other branches do not need

        faces, cells = len(x), self.spec.cells
        # A place is a point in the middle of the pixels that it sees; to roi_align it lies at its number + 0.5.
        corners = (self.boxes - self.field.centre) / self.field.step + 0.5
        number = torch.arange(faces, device=x.device).repeat_interleave(self.labels).to(corners)
        rois = torch.cat([number[:, None], corners.repeat(faces, 1)], 1)
        found = roi_align(x.float(), rois, cells, sampling_ratio=1, aligned=True)
        return torch.as_tensor(found).to(x.dtype).reshape(faces, -1, cells, cells)

    def set_precision(self, dtype: torch.dtype) -> None:
        """Run the layers in a number format; regions stay float32."""
        for layers in (self.narrow, self.respond, self.refine):
            layers.to(dtype).to(memory_format=torch.channels_last)


def first_answers(responses: Tensor) -> Tensor:
    """Reduce (N, K, h, w) responses to (N, K): the mean of the greatest and the average one."""
    return (responses.amax((2, 3)) + responses.mean((2, 3))) / 2
