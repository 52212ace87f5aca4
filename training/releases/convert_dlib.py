"""Converts the published face recognition model of dlib to the weights of the trunk `dlib29`.

Source of the layout: dlib's serialisation (Boost licence). The file is a stream of numbers, each a length byte and that
many bytes; tensors are float32 behind their shape; every layer is preceded by its version as a string.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.errors import WeightsError
from models.trunks.dlib29 import DLIB_CROP_SIDE, Dlib29
from models.weights import check_sha256, load_into
from training.releases.packages import read_member

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

MEMBER = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"  # in face_recognition_models 0.3.0
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
LICENCE = "CC0, dlib_face_recognition_resnet_model_v1 by Davis King"

_INPUT_SCALE = 256.0  # dlib takes (x - mean) / 256
_CONVOLUTIONS = 29
_TENSOR_VERSION = 2


def convert_dlib(source: Path) -> dict[str, Tensor]:
    """Read the weights of `Dlib29`, float32.

    Args:
        source: face_recognition_models 0.3.0 as source archive or folder, or its file itself.

    Raises:
        WeightsError: the source does not hold exactly the expected bytes.
    """
    data = read_member(source, MEMBER)
    check_sha256(data, SHA256, f"{source}: {MEMBER}")
    tensors = _tensors(_Stream(data))
    load_into(Dlib29(), tensors, str(source))
    return tensors


@dataclass(slots=True)
class _Stream:
    """dlib's serialised bytes, read from front to back."""

    data: bytes
    place: int = 0

    def skip_to(self, version: str) -> None:
        """Move behind the next layer version of this name."""
        mark = bytes([1, len(version)]) + version.encode()
        self.place = self.data.index(mark, self.place) + len(mark)

    def integer(self) -> int:
        """Read a number: a byte with its length and sign, then its bytes, least significant first."""
        head = self.data[self.place]
        length = head & 0x0F
        value = int.from_bytes(self.data[self.place + 1 : self.place + 1 + length], "little")
        self.place += 1 + length
        return -value if head & 0x80 else value

    def real(self) -> float:
        """Read a floating-point number: mantissa and binary exponent."""
        return math.ldexp(self.integer(), self.integer())

    def tensor(self) -> Tensor:
        """Read a float32 tensor of four dimensions."""
        version = self.integer()
        if version != _TENSOR_VERSION:
            message = f"tensor of version {version}, expected {_TENSOR_VERSION}; this is another file than {MEMBER}"
            raise WeightsError(message)
        shape = [self.integer() for _ in range(4)]
        count = math.prod(shape)
        values = np.frombuffer(self.data, "<f4", count, self.place).reshape(shape)
        self.place += 4 * count
        return torch.from_numpy(values.copy())


def _tensors(stream: _Stream) -> dict[str, Tensor]:
    """Name the tensors as in `models.trunks.dlib29`; the file begins at the output, so the last layer comes first."""
    stream.skip_to("input_rgb_image_sized")
    mean = torch.tensor([stream.real() for _ in range(3)])
    side = stream.integer()
    if side != DLIB_CROP_SIDE:
        message = f"crops of {side} pixels, expected {DLIB_CROP_SIDE}; this is another file than {MEMBER}"
        raise WeightsError(message)
    names = ["conv_1.conv", *(f"conv_{2 * n + 1}.{half}" for n in range(1, 15) for half in ("first", "second"))]
    tensors: dict[str, Tensor] = {}
    for name in names[:_CONVOLUTIONS]:
        weight, bias = _convolution(stream)
        if name == "conv_1.conv":
            # The stem does not pad, so mean and scale of the input fold into it.
            weight = weight / _INPUT_SCALE
            bias = bias - (weight * mean[:, None, None].double()).sum((1, 2, 3))
        tensors |= {f"layers.{name}.weight": weight.float(), f"layers.{name}.bias": bias.float()}
    stream.skip_to("fc_2")
    outputs, inputs = stream.integer(), stream.integer()
    return {**tensors, "linear.weight": stream.tensor().reshape(inputs, outputs).T.contiguous()}


def _convolution(stream: _Stream) -> tuple[Tensor, Tensor]:
    """Read a convolution and fold in the scale and shift behind it: float64 weight and bias."""
    stream.skip_to("con_4")
    values = stream.tensor().flatten().double()
    filters, height, width = (stream.integer() for _ in range(3))
    weight, bias = values[:-filters].reshape(filters, -1, height, width), values[-filters:]
    stream.skip_to("affine_")
    scale, shift = stream.tensor().flatten().double().chunk(2)
    return weight * scale[:, None, None, None], bias * scale + shift
