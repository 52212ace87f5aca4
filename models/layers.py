"""The layers of a release: which of its parts decide which stored rows.

finder      detector, detection policy, alignment, quality policy, pipeline version: faces and their crops
trunk       finder + trunk: embeddings, appearances, people
head        trunk + weights and shape of one branch: the codes of its scores (`models.readings`)
reading     head + temperature, abstention, thresholds: labels, values and intervals

A layer's fingerprint covers its own part and the fingerprint of the layer below it. Two releases that share a layer
share its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from models import manifest as manifests
from models.errors import ReleaseError
from models.trunks.base import EMBEDDING_DEPTH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.branches import BranchSpec
    from models.manifest import Manifest

LayerKind = Literal["finder", "trunk", "head", "reading"]
FaceSource = Literal["nothing", "media"]
EmbeddingSource = Literal["nothing", "crops"]
PredictionSource = Literal["nothing", "reading", "embedding", "crops"]

# Fields of a branch that decide its reading, from the stored codes of its scores. All others belong to its head.
READING_FIELDS = ("temperature", "abstain", "thresholds")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEntry:
    """One layer, as the ledger stores it."""

    kind: LayerKind
    fingerprint: str
    """SHA-256 over kind, `spec` and the parent's fingerprint: 64 lower-case hex digits."""
    parent: str | None
    """Fingerprint of the layer below; None for a finder."""
    spec: Mapping[str, Any]
    """Everything that the layer adds to its parent, ready for JSON."""
    task: str | None = None
    """Of a head or a reading."""
    labels: tuple[str, ...] | None = None
    """K names of a head's outputs, in their order; None for the other kinds."""


@dataclass(frozen=True, slots=True)
class ReleaseLayers:
    """The layers that a release chose."""

    finder: LayerEntry
    trunk: LayerEntry
    heads: Mapping[str, LayerEntry]
    """By task, in the order of the release's branches."""
    readings: Mapping[str, LayerEntry]
    """By task, in the same order."""

    @property
    def entries(self) -> tuple[LayerEntry, ...]:
        """All layers, each behind its parent."""
        return (self.finder, self.trunk, *self.heads.values(), *self.readings.values())


@dataclass(frozen=True, slots=True)
class CheapestSources:
    """The source from which each layer of a new release is computed, where the rows of an old one are stored."""

    finder: FaceSource
    """nothing: the faces are stored. media: files are searched again, which decides all other layers, too."""
    trunk: EmbeddingSource
    """nothing: the embeddings are stored. crops: the trunk runs over stored crops, or over those of a new finder."""
    tasks: Mapping[str, PredictionSource]
    """By task of the new release. nothing: the rows are stored. reading: stored codes are read again. embedding: the
    branch runs over stored embeddings. crops: trunk and branch run over crops."""


def layers_of(manifest: Manifest, pipeline_version: int) -> ReleaseLayers:
    """Return the layers of a release.

    Args:
        manifest: with the hashes of its files.
        pipeline_version: of the program that finds, aligns and judges faces; it grows when code changes their rows.

    Raises:
        ReleaseError: the manifest names no hash for a file of the release.
    """
    plain = manifest.canonical().plain()
    finder = {key: plain[key] for key in ("detector", "detection", "alignment", "quality")}
    finder |= {"sha256": _file(manifest, manifests.DETECTOR_FILE), "pipeline_version": pipeline_version}
    lowest = layer_entry("finder", None, finder)
    trunk = layer_entry("trunk", lowest, {"name": manifest.trunk, "sha256": _file(manifest, manifests.TRUNK_FILE)})
    heads, readings = {}, {}
    for spec, branch in zip(manifest.branches, plain["branches"], strict=True):
        heads[spec.task] = _head(manifest, spec, branch, trunk)
        readings[spec.task] = _reading(spec, branch, heads[spec.task])
    return ReleaseLayers(lowest, trunk, heads, readings)


def way_of(old: ReleaseLayers, new: ReleaseLayers) -> CheapestSources:
    """Return the cheapest source of each layer of a new release, where all rows of an old release are stored."""
    found = old.finder.fingerprint == new.finder.fingerprint
    embedded = old.trunk.fingerprint == new.trunk.fingerprint
    return CheapestSources(
        finder="nothing" if found else "media",
        trunk="nothing" if embedded else "crops",
        tasks={task: _prediction_source(old, new, task, embedded=embedded) for task in new.heads},
    )


def _prediction_source(old: ReleaseLayers, new: ReleaseLayers, task: str, *, embedded: bool) -> PredictionSource:
    if _same(old.readings, new.readings, task):
        return "nothing"
    if _same(old.heads, new.heads, task):
        return "reading"
    reads_embedding = new.heads[task].spec["depths"] == [EMBEDDING_DEPTH]
    return "embedding" if embedded and reads_embedding else "crops"


def _same(old: Mapping[str, LayerEntry], new: Mapping[str, LayerEntry], task: str) -> bool:
    return task in old and old[task].fingerprint == new[task].fingerprint


def _head(manifest: Manifest, spec: BranchSpec, branch: Mapping[str, Any], trunk: LayerEntry) -> LayerEntry:
    shape = {key: value for key, value in branch.items() if key not in READING_FIELDS}
    weights = {"sha256": _file(manifest, manifests.branch_file(spec.task))}
    return layer_entry("head", trunk, shape | weights, spec.task, spec.labels)


def _reading(spec: BranchSpec, branch: Mapping[str, Any], head: LayerEntry) -> LayerEntry:
    return layer_entry("reading", head, {key: branch[key] for key in ("kind", *READING_FIELDS)}, spec.task)


def layer_entry(
    kind: LayerKind,
    parent: LayerEntry | None,
    spec: Mapping[str, Any],
    task: str | None = None,
    labels: tuple[str, ...] | None = None,
) -> LayerEntry:
    """Return a layer with its fingerprint.

    Args:
        kind: of the layer.
        parent: the layer below; None for a finder.
        spec: everything that the layer adds to its parent, ready for JSON.
        task: of a head or a reading.
        labels: K names of a head's outputs, in their order.
    """
    below = None if parent is None else parent.fingerprint
    fingerprint = manifests.sha256_of_json({"kind": kind, "parent": below, "spec": spec})
    return LayerEntry(kind=kind, fingerprint=fingerprint, parent=below, spec=spec, task=task, labels=labels)


def _file(manifest: Manifest, name: str) -> str:
    try:
        return manifest.files[name]
    except KeyError as err:
        raise ReleaseError(
            f"release {manifest.name} names no hash of {name}, so its rows cannot be told from those of other weights: "
            "write it with models.release.write_release"
        ) from err
