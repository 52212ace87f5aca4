"""Writes trained branches and trunks as a release folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from models.branches import Branch
from models.errors import ReleaseError
from models.manifest import (
    DETECTOR_FILE,
    TRUNK_FILE,
    TRUNK_PART,
    Manifest,
    branch_file,
    of_detector,
    read_manifest,
)
from models.release import write_release
from models.weights import load_into, read_weights
from training.errors import RecipeError
from training.releases.origin import DETECTION, RANDOM_LICENCE, TUNING, Origin, of_trunk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from models.manifest import TrainingRun
    from models.trunks.base import Trunk
    from training.evaluate.evaluate import Evaluation

LICENCES = {
    "detector": "MIT, yakhyo/retinaface-pytorch",
    "trunk": "Apache-2.0, OpenCV Zoo face_recognition_sface_2021dec",
    "branches": "Apache-2.0; trained on images for non-commercial research, see data",
}


_STATISTICS = ("running_mean", "running_var")  # of batch norm
_FP16_MAX = 65504.0


@dataclass(frozen=True, slots=True)
class TunedTrunk:
    """A trunk that learnt with its branches."""

    name: str
    """Of the trunk in the release: family and weights."""
    trunk: Trunk
    sets: tuple[str, ...]
    """Data sets that it learnt from."""

    def licence(self, before: str) -> str:
        """Return the licence of its weights, given that of the original trunk."""
        return f"{before or 'unknown'}; tuned on images of {', '.join(self.sets)}, whose terms hold for it, see data"

    def data(self) -> dict[str, str]:
        """Return the sets that it learnt from, for the manifest."""
        return {"tasks": "tuning of the trunk", "terms": "those of its sets", "source": ", ".join(self.sets)}


def export(
    name: str,
    base: Path,
    branches: Sequence[Branch],
    target: Path,
    tuned: TunedTrunk | None = None,
    origin: Origin | None = None,
) -> Manifest:
    """Write a release: detector, trunk and branches of a base release, with new branches added or in place of its own.

    Args:
        name: of the new release.
        base: folder of a release; it may have no branches.
        branches: trained and calibrated; they replace the base's branches of the same tasks.
        target: folder to write; may be the base's.
        tuned: takes the place of the base's trunk; then the base's branches, which read another trunk, are left out.
        origin: of the branches, and of the trunk where it was tuned.
    """
    before = read_manifest(base)
    licence = before.licences.get("trunk", LICENCES["trunk"])
    fresh = {branch.spec.task: branch for branch in branches}
    kept = () if tuned else tuple(spec for spec in before.branches if spec.task not in fresh)
    found = _joined(before, [spec.task for spec in kept], origin)
    data = found.data
    if tuned:
        before = replace(before.on_trunk(tuned.name), files=before.files)
        licence, data = tuned.licence(licence), data | {TUNING: tuned.data()}
    specs = (*kept, *(branch.spec for branch in branches))
    files = (DETECTOR_FILE, *(() if tuned else (TRUNK_FILE,)), *(branch_file(spec.task) for spec in kept))
    weights: dict[str, Mapping[str, Tensor]] = {file: read_weights(base / file, before.files[file]) for file in files}
    weights |= {TRUNK_FILE: half(tuned.trunk.state_dict())} if tuned else {}
    weights |= {branch_file(task): half(branch.state_dict()) for task, branch in fresh.items()}
    licences = LICENCES | of_detector(before.licences) | {"trunk": licence}
    manifest = replace(before, name=name, branches=specs, metrics={}, verdict=None, data=data, licences=licences)
    return write_release(target, replace(manifest, training=found.runs), weights)


def _joined(before: Manifest, kept: Sequence[str], origin: Origin | None) -> Origin:
    """Join the origin of a base's detector, trunk and kept branches with that of new parts."""
    learnt = any(run.only({TRUNK_PART}) for run in before.training)
    published = not learnt and before.licences.get("trunk") != RANDOM_LICENCE
    parts = [Origin(data=DETECTION | (of_trunk(before.trunk) if published else {}))]
    return Origin.join([*parts, Origin.of_parts(before, {*kept, TRUNK_PART}), *([origin] if origin else [])])


def write_trunk(trunk: Trunk, name: str, base: Path, target: Path, run: TrainingRun | None = None) -> Manifest:
    """Write a release with the detector of a base release, this trunk and no branches.

    Args:
        trunk: trained.
        name: of the trunk, such as face24-w0.5-r112.
        base: folder of the release whose detector and policies are taken.
        target: folder to write.
        run: that trained it.
    """
    before = read_manifest(base)
    origin = Origin.join([Origin(data=DETECTION), *([Origin.of_run(run)] if run else [])])
    terms = {"trunk": "as the faces that it was trained on allow"}
    licences = {"detector": ""} | of_detector(before.licences) | terms
    data = origin.data | of_detector(before.data)
    manifest = replace(before.on_trunk(name), name=target.name, data=data, licences=licences, training=origin.runs)
    detector = read_weights(base / DETECTOR_FILE, before.files[DETECTOR_FILE])
    tensors = {key: value.detach().float().cpu() for key, value in trunk.state_dict().items()}
    return write_release(target, manifest, {DETECTOR_FILE: detector, TRUNK_FILE: tensors})


def half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert floating-point weights to fp16, which halves the file and moves answers no more than rounding does.

    Statistics of batch norm stay float32: variances may lie above 65,504, where fp16 ends, or be too small for it.

    Raises:
        RecipeError: a weight lies beyond fp16.
    """
    if beyond := [key for key, value in weights.items() if not key.endswith(_STATISTICS) and _overflows(value)]:
        raise RecipeError(f"{beyond[0]} has weights beyond {_FP16_MAX:g}, where fp16 ends; train with smaller rates")
    return {key: _halved(key, value) for key, value in weights.items()}


def _halved(key: str, value: Tensor) -> Tensor:
    keeps = key.endswith(_STATISTICS) or not value.is_floating_point()
    return value if keeps else value.to(torch.float16)


def _overflows(value: Tensor) -> bool:
    return value.is_floating_point() and value.numel() > 0 and float(value.abs().max()) > _FP16_MAX


def add_metrics(folder: Path, evaluation: Evaluation) -> Manifest:
    """Write the overall figures of an evaluation into a manifest; weights and fingerprint stay as they are."""
    manifest = read_manifest(folder)
    metrics: dict[str, Any] = {}
    for row in evaluation.rows:
        if row.group == "all":
            figure = {"value": round(row.figure.value, 4), "faces": row.figure.count}
            metrics.setdefault(row.task, {})[f"{row.data}: {row.measure}"] = figure
    weights = {file: read_weights(folder / file, sha256) for file, sha256 in manifest.files.items()}
    return write_release(folder, replace(manifest, metrics=metrics), weights)


def branches_of(folder: Path, tasks: Sequence[str]) -> list[Branch]:
    """Load some branches of a release.

    Raises:
        ReleaseError: the release has no such branch.
        WeightsError: a file is damaged or exchanged.
    """
    manifest = read_manifest(folder)
    specs = {spec.task: spec for spec in manifest.branches}
    if missing := sorted(set(tasks) - set(specs)):
        raise ReleaseError(f"release {folder} has no heads {missing}; it has {sorted(specs)}")
    branches = []
    for task in tasks:
        branch = Branch(specs[task], manifest.layout)
        file = branch_file(task)
        load_into(branch, read_weights(folder / file, manifest.files[file]), f"branch {task}")
        branches.append(branch)
    return branches
