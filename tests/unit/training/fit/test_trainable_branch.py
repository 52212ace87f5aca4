"""Statistics of batch norm behind random weights."""

from __future__ import annotations

import torch
from torch import nn

from training.fit.trainable_branch import settle_statistics


def test_statistics_become_those_of_the_examples_and_frozen_ones_stay():
    frozen, learning = nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(2, momentum=0.2)
    model = nn.Sequential(frozen, learning)
    x = torch.randn(64, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 7 + 50
    learning.running_mean.fill_(9)
    settle_statistics(model, lambda: [model(part) for part in x.split(16)])
    assert torch.allclose(learning.running_mean, frozen(x).mean((0, 2, 3)), atol=1e-3)
    assert torch.equal(frozen.running_mean, torch.zeros(2))
    assert learning.momentum == 0.2
    assert torch.allclose(model.eval()(x).std((0, 2, 3)), torch.ones(2), atol=0.05)
