"""The detector's model computes the same, however its convolutions are run."""

import pytest
import torch

from models.detection.retinaface import Convolution


@pytest.mark.parametrize(("stride", "groups", "inputs"), [(1, 1, 8), (2, 8, 8), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_convolution_is_the_plain_one(stride, groups, inputs, dtype):
    torch.manual_seed(0)
    layer = Convolution((inputs, 8, 3), stride, groups=groups).to(dtype)
    x = torch.randn(2, inputs, 13, 18).to(dtype).contiguous(memory_format=torch.channels_last)
    plain = layer(x).detach()
    with torch.inference_mode():
        fused = layer(x)
    assert fused.shape == plain.shape == (2, 8, -(-13 // stride), -(-18 // stride))
    torch.testing.assert_close(fused, plain, rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=1e-2)
