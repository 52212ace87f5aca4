from __future__ import annotations

import pytest
import torch

from training.errors import RecipeError
from training.releases.export import half


def test_statistics_of_batch_norm_stay_float32():
    norm = torch.nn.BatchNorm2d(3)
    norm.running_var.copy_(torch.tensor([70_000.0, 1e-9, 1.5]))
    norm.running_mean.fill_(0.1)
    found = half({f"layers.a.norm.{key}": value for key, value in norm.state_dict().items()})
    assert torch.equal(found["layers.a.norm.running_var"], norm.running_var)
    assert torch.equal(found["layers.a.norm.running_mean"], norm.running_mean)
    assert found["layers.a.norm.weight"].dtype == torch.float16
    assert found["layers.a.norm.num_batches_tracked"].dtype == torch.int64


def test_weights_beyond_fp16_are_refused():
    assert half({"w": torch.tensor([65_504.0])})["w"].tolist() == [65_504.0]
    with pytest.raises(RecipeError, match=r"bias has weights beyond 65504, where fp16 ends"):
        half({"w": torch.ones(2), "bias": torch.tensor([-65_600.0])})
