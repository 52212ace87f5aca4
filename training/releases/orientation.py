"""From a trained orientation model to a release folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.detection.detector import ORIENTATION as PREFIX
from models.detection.detector import split_weights
from models.manifest import DETECTOR_FILE, Manifest, read_manifest
from models.release import write_release
from models.weights import read_weights
from training.releases.export import half
from training.releases.origin import SET_TERMS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.detection.orientation import OrientationNet

ORIENTATION = "orientation"  # in the manifest's `data` and `licences`
ORIENTATION_LICENCE = "Apache-2.0; trained on images for non-commercial research, see data"
ORIENTATION_TERMS = {name: SET_TERMS[name][0] for name in ("celeba10k", "utkface", "lfw")}


def export_orientation(name: str, base: Path, model: OrientationNet, target: Path, sets: Sequence[str]) -> Manifest:
    """Write a base release whose detector file holds this model in place of its own, if it has one.

    Args:
        name: of the new release.
        base: folder of a release.
        model: trained.
        target: folder to write; may be the base's.
        sets: data sets that the model learnt from, of those in ORIENTATION_TERMS.
    """
    before = read_manifest(base)
    weights = {file: read_weights(base / file, sha256) for file, sha256 in before.files.items()}
    detector, _ = split_weights(weights[DETECTOR_FILE])
    learnt = {f"{PREFIX}{key}": value.cpu() for key, value in half(model.state_dict()).items()}
    terms = "; ".join(f"{data_set}: {ORIENTATION_TERMS[data_set]}" for data_set in sets)
    data = {"tasks": "orientation of crops", "terms": terms, "source": ", ".join(sets)}
    manifest = replace(
        before,
        name=name,
        metrics={},
        data=before.data | {ORIENTATION: data},
        licences=before.licences | {ORIENTATION: ORIENTATION_LICENCE},
    )
    return write_release(target, manifest, weights | {DETECTOR_FILE: detector | learnt})
