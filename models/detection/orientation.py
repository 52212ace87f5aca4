"""Orientation of aligned crops: whether the eyes are where the landmarks claim them to be.

The detector learnt from upright faces. In a face that is turned it often places the landmarks of an upright one, and
takes the crop that was cut by these for a face again. This model was trained on exactly such crops.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 56  # pixels of a crop as the model reads it
ORIENTATION_CHANNELS = (16, 32, 64)  # of its maps, each half as wide as the one before
HIDDEN = 64
_CONTRAST_FLOOR = 4.0  # grey levels added to the standard deviation: plain crops are not amplified to noise


class OrientationNet(nn.Module):
    """Three strided convolutions and two linear layers: 0.23 million weights, 2 million products a crop."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (1, *ORIENTATION_CHANNELS)
        self.maps = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1)
            for before, after in zip(inputs, ORIENTATION_CHANNELS, strict=False)
        )
        self.hidden = nn.Linear(ORIENTATION_CHANNELS[-1] * (SIDE // 2 ** len(ORIENTATION_CHANNELS)) ** 2, HIDDEN)
        self.output = nn.Linear(HIDDEN, 1)

    def forward(self, crops: Tensor) -> Tensor:
        """Return the (N,) logits of crops to show an upright face.

        Args:
            crops: (N, 3, S, S) RGB 0..255, S a multiple of 56, aligned to ARCFACE_TEMPLATE; N may be 0.
        """
        if not len(crops):
            return torch.zeros(0, device=crops.device)
        x = self._normalised(crops)
        for convolution in self.maps:
            x = functional.relu(convolution(x))
        hidden = functional.relu(self.hidden(functional.dropout(x.flatten(1), 0.2, self.training)))
        return torch.as_tensor(self.output(hidden)[:, 0])

    def _normalised(self, crops: Tensor) -> Tensor:
        """Return (N, 1, SIDE, SIDE) grey crops with a mean of 0 and a standard deviation of about 1."""
        grey = functional.avg_pool2d(crops.float().mean(1, keepdim=True), crops.shape[-1] // SIDE)
        deviation, mean = torch.std_mean(grey, (1, 2, 3), keepdim=True)
        return torch.as_tensor((grey - mean) / (deviation + _CONTRAST_FLOOR))
