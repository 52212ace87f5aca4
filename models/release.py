"""A release: detector, aligner, trunk and branches that belong together, in one folder that describes itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models import manifest as manifests
from models import quality
from models.branches import Branch, BranchSpec
from models.detection.detector import FaceDetector
from models.detection.finding import Search, find_faces
from models.errors import ReleaseError
from models.geometry import ARCFACE_POINTS, ARCFACE_TEMPLATE, align
from models.inference.precision import resolve_device
from models.multi_task import EmbeddingHeads, MultiTaskModel
from models.trunks.registry import create_trunk
from models.weights import load_into, read_weights, write_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from models.detection.finding import Faces
    from models.manifest import Manifest
    from models.quality import FaceQuality
    from models.trunks.base import TrunkLayout
    from models.types import Detections, FaceOutputs

DEFAULT = Path(__file__).parent / "releases" / "default"


@dataclass(frozen=True, slots=True)
class Release:
    """A loaded release: every stage from frame to prediction, on one device."""

    manifest: Manifest
    detector: FaceDetector
    model: MultiTaskModel
    device: torch.device

    @property
    def name(self) -> str:
        """The release's name."""
        return self.manifest.name

    @property
    def weights_sha256(self) -> str:
        """SHA-256 over the names and hashes of all weights files."""
        return self.manifest.weights_sha256

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes stored faces: weights, policies, branches, alignment."""
        return self.manifest.fingerprint

    @property
    def heads(self) -> tuple[str, ...]:
        """Tasks of the branches that are on."""
        return self.model.tasks

    def spec(self, task: str) -> BranchSpec:
        """Return the description of a branch that is on.

        Raises:
            ReleaseError: there is none of this task, or it is off.
        """
        if task not in self.heads:
            raise ReleaseError(f"release {self.name} has no head {task!r} switched on: it has {_listed(self.heads)}")
        return next(spec for spec in self.manifest.branches if spec.task == task)

    def labels(self, task: str) -> tuple[str, ...]:
        """Return the names of a head's outputs, in their order."""
        return self.spec(task).labels

    def threshold(self, task: str) -> float:
        """Return the probability of the best label below which a head answers 'unknown'; 0 for no limit."""
        spec = self.spec(task)
        return spec.abstain or 0.0 if spec.kind == "softmax" else 0.0

    @property
    def layout(self) -> TrunkLayout:
        """Layout of the trunk: crops, depths and length of the embedding."""
        return self.model.layout

    def align(self, frames: Tensor, detections: Detections) -> Tensor:
        """Cut the trunk's crops, (N, 3, S, S) uint8, of N faces out of (B, 3, H, W) uint8 frames."""
        template = torch.tensor(self.layout.template)
        return align(frames, detections.frame, detections.landmarks, template, self.layout.side)

    def confirm(self, crops: Tensor) -> Tensor:
        """Return the (N,) scores with which N faces are detected again in their crops."""
        return self.detector.confirm(usual_crops(crops, self.layout))

    def sharpness(self, crops: Tensor) -> Tensor:
        """Return the (N,) float32 sharpness, on the CPU, of N faces by their crops."""
        return quality.sharpness(usual_crops(crops, self.layout)).cpu()

    def uprightness(self, crops: Tensor) -> Tensor:
        """Return the (N,) float32 logits, on the CPU, of N crops to show an upright face; infinite if unknown."""
        return self.detector.uprightness(usual_crops(crops, self.layout))

    def quality(
        self,
        detections: Detections,
        crops: Tensor,
        frame_size: tuple[int, int],
        evidence: quality.Evidence | None = None,
    ) -> FaceQuality:
        """Measure the quality of N faces by their crops and the (height, width) of their frames.

        Args:
            detections: the faces.
            crops: (N, 3, S, S) uint8, as `align` cuts them.
            frame_size: height and width in pixels.
            evidence: results of `sharpness` and `confirm` for them; None where neither was called.
        """
        usual = usual_crops(crops, self.layout)
        policy = self.manifest.quality
        return quality.measure(detections, usual, frame_size, policy, self.detector.confirm, evidence)

    def find(self, frames: Tensor, search: Search | None = None) -> Faces:
        """Detect and align the faces of (B, 3, H, W) uint8 RGB frames on the release's device, with their quality."""
        return find_faces(self, frames, search or Search())

    def infer(self, crops: Tensor) -> FaceOutputs:
        """Run all heads over (N, 3, S, S) uint8 crops in one pass; N may be 0."""
        return self.model.infer(crops)


def load_release(
    path: Path | None = None, *, device: str = "auto", heads: frozenset[str] | None = None, identity: bool = True
) -> Release:
    """Load a release after checking every byte of it.

    Args:
        path: its folder; None for the shipped one.
        device: auto, cpu, cuda or cuda:N.
        heads: tasks to switch on; None for all of the release. The others are neither loaded nor computed.
        identity: False computes no embeddings.

    Raises:
        ReleaseError: the folder is no release, or a head or the device is unknown.
        WeightsError: a file is missing or another one than the release names.
    """
    folder = path or DEFAULT
    manifest = manifests.read_manifest(folder)
    place = resolve_device(device)
    detector = FaceDetector(_weights(folder, manifest, manifests.DETECTOR_FILE), manifest.detection, place)
    return Release(manifest, detector, _model(folder, manifest, place, heads, identity=identity), place)


def load_model(
    path: Path | None = None, *, device: str = "auto", heads: frozenset[str] | None = None, identity: bool = True
) -> MultiTaskModel:
    """Load trunk and branches of a release without its detector, for faces whose crops are there.

    The detector's file is not read. Its outputs are those of `load_release`; arguments and errors, too.
    """
    folder = path or DEFAULT
    return _model(folder, manifests.read_manifest(folder), resolve_device(device), heads, identity=identity)


def load_heads(path: Path | None, tasks: frozenset[str], *, device: str = "auto") -> EmbeddingHeads:
    """Load branches that read the embedding alone, for faces whose embeddings are stored. No other file is read.

    Args:
        path: folder of the release; None for the shipped one.
        tasks: of the branches.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        ReleaseError: the folder is no release, a head or the device is unknown, or a branch reads maps.
        WeightsError: a file is missing or another one than the release names.
    """
    folder = path or DEFAULT
    manifest = manifests.read_manifest(folder)
    branches = [_branch(folder, manifest, spec) for spec in _switched_on(manifest, tasks)]
    try:
        return EmbeddingHeads(branches, resolve_device(device))
    except ValueError as err:
        raise ReleaseError(f"release {manifest.name}: {err}") from err


def _model(
    folder: Path, manifest: Manifest, device: torch.device, heads: frozenset[str] | None, *, identity: bool
) -> MultiTaskModel:
    trunk = create_trunk(manifest.trunk)
    load_into(trunk, _weights(folder, manifest, manifests.TRUNK_FILE), "trunk")
    branches = [_branch(folder, manifest, spec) for spec in _switched_on(manifest, heads)]
    return MultiTaskModel(trunk, branches, device, identity=identity)


def usual_crops(crops: Tensor, layout: TrunkLayout) -> Tensor:
    """Turn a trunk's crops into the (N, 3, 112, 112) crops on ARCFACE_TEMPLATE that quality is measured on."""
    if layout.template == ARCFACE_POINTS:
        return crops
    landmarks = torch.tensor(layout.template).expand(len(crops), -1, -1)
    return align(crops, torch.arange(len(crops)), landmarks, ARCFACE_TEMPLATE)


def write_release(folder: Path, manifest: Manifest, weights: Mapping[str, Mapping[str, Tensor]]) -> Manifest:
    """Write a release folder.

    Args:
        folder: created if it is missing; files of the same names are replaced.
        manifest: without hashes; `files` is set here.
        weights: tensors by file: `manifest.DETECTOR_FILE`, `manifest.TRUNK_FILE` and `manifest.branch_file(task)` for
            each branch, no more and no fewer.

    Returns:
        The manifest as written.

    Raises:
        ReleaseError: weights and manifest name different files, or the manifest contradicts itself.
    """
    manifest.check()
    wanted = {
        manifests.DETECTOR_FILE,
        manifests.TRUNK_FILE,
        *(manifests.branch_file(s.task) for s in manifest.branches),
    }
    if wanted != set(weights):
        raise ReleaseError(f"got weights for {_listed(sorted(weights))}, expected {_listed(sorted(wanted))}")
    folder.mkdir(parents=True, exist_ok=True)
    written = manifest.with_files({name: write_weights(folder / name, weights[name]) for name in sorted(weights)})
    (folder / manifests.FILE).write_text(written.to_json(), encoding="utf-8")
    return written


def _weights(folder: Path, manifest: Manifest, name: str) -> dict[str, Tensor]:
    if name not in manifest.files:
        raise ReleaseError(f"{folder / manifests.FILE} names no file {name}: restore it")
    return read_weights(folder / name, manifest.files[name])


def _switched_on(manifest: Manifest, heads: frozenset[str] | None) -> list[BranchSpec]:
    known = [spec.task for spec in manifest.branches]
    unknown = sorted((heads or frozenset()) - set(known))
    if unknown:
        raise ReleaseError(f"release {manifest.name} has no head {_listed(unknown)}: it has {_listed(known)}")
    return [spec for spec in manifest.branches if heads is None or spec.task in heads]


def _branch(folder: Path, manifest: Manifest, spec: BranchSpec) -> Branch:
    branch = Branch(spec, manifest.layout)
    load_into(branch, _weights(folder, manifest, manifests.branch_file(spec.task)), f"branch {spec.task}")
    return branch


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names) or "none"
