"""The layers of a stored manifest, as of migration 0017: a frozen copy of ``models.layers``.

A release that is registered by the program finds its layers by these fingerprints; a test holds both together. The
manifest is the JSON object of ``release.json``. Fields that older programs did not write have the values that programs
of this version give them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DETECTION = {
    "threshold": 0.6, "nms": 0.4, "max_side": 1600, "min_side": 480, "one_look_side": 640, "second_look_side": 480,
    "large_face": 320,
}  # fmt: skip
QUALITY = {
    "min_side": 16.0, "min_inside": 0.6, "max_misfit": 16.0, "max_turn": 1.0, "min_sharpness": 1.5,
    "min_confirmation": 0.5, "sure_score": 0.99, "sure_misfit": 6.0, "good_side": 80.0, "good_sharpness": 20.0,
}  # fmt: skip
SHAPE = {"task": "", "kind": "", "labels": [], "depths": [], "stages": [], "pool": 1, "hidden": 0}
READING = {"kind": "", "temperature": 1.0, "abstain": None, "thresholds": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLayer:
    """A row of the table ``layer``, whose parent is named by its fingerprint."""

    kind: str
    fingerprint: str
    parent: str | None
    spec: Mapping[str, Any]
    task: str | None = None
    labels: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a release; heads and readings by task."""

    finder: FoundLayer
    trunk: FoundLayer
    heads: Mapping[str, FoundLayer]
    readings: Mapping[str, FoundLayer]

    @property
    def all(self) -> tuple[FoundLayer, ...]:
        """All layers, each behind its parent."""
        return (self.finder, self.trunk, *self.heads.values(), *self.readings.values())


def layers_of(manifest: Mapping[str, Any], pipeline_version: int, apart: str | None = None) -> Layers:
    """Return the layers of a release.

    Args:
        manifest: as stored.
        pipeline_version: of the program that registered it.
        apart: the fingerprint of a release that shares no row with any other; None for one that may.
    """
    files = manifest.get("files", {})
    found = {
        "detector": manifest.get("detector"),
        "detection": _filled(DETECTION, manifest.get("detection", {})),
        "alignment": _alignment(manifest.get("alignment")),
        "quality": _filled(QUALITY, manifest.get("quality", {})),
        "sha256": files.get("detector.safetensors"),
        "pipeline_version": pipeline_version,
    }
    finder = _layer("finder", None, found if apart is None else found | {"apart": apart})
    trunk = _layer("trunk", finder, {"name": manifest.get("trunk"), "sha256": files.get("trunk.safetensors")})
    heads, readings = {}, {}
    for branch in manifest.get("branches", []):
        task = str(branch["task"])
        shape = _filled(SHAPE, branch) | {"sha256": files.get(f"branch-{task}.safetensors")}
        heads[task] = _layer("head", trunk, shape, task, list(branch["labels"]))
        readings[task] = _layer("reading", heads[task], _filled(READING, branch), task)
    return Layers(finder, trunk, heads, readings)


def pipeline_of(code_version: str) -> int:
    """Return the version of the pipeline that a release's ``code_version`` names; 0 where it names none."""
    found = re.search(r"\+pipeline(\d+)$", code_version)
    return int(found[1]) if found else 0


def _layer(
    kind: str,
    parent: FoundLayer | None,
    spec: Mapping[str, Any],
    task: str | None = None,
    labels: list[str] | None = None,
) -> FoundLayer:
    below = None if parent is None else parent.fingerprint
    content = json.dumps({"kind": kind, "parent": below, "spec": spec}, sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    return FoundLayer(kind=kind, fingerprint=fingerprint, parent=below, spec=spec, task=task, labels=labels)


def _filled(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `defaults` with the given values; whole numbers become fractions where fields are."""
    return {name: _like(default, given.get(name, default)) for name, default in defaults.items()}


def _like(default: object, value: Any) -> Any:
    if isinstance(value, int) and (default is None or isinstance(default, float)):
        return float(value)
    return value


def _alignment(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    template = [[float(x) for x in point] for point in given["template"]]
    return {"template": template, "side": given["side"]}
