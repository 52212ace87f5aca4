"""The manifest of a release: `release.json`, typed."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from models.branches import BranchSpec  # noqa: TC001 - pydantic reads the annotation
from models.detection.detector import DetectionPolicy
from models.errors import ReleaseError
from models.quality import QualityPolicy
from models.trunks.registry import layout_of
from models.trunks.sface import SFACE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from models.trunks.base import TrunkLayout

Entry = TypeVar("Entry")

FILE = "release.json"
FORMAT = 1
DETECTOR_FILE = "detector.safetensors"
TRUNK_FILE = "trunk.safetensors"
# Parts that decide no result.
DESCRIPTIVE = frozenset({"name", "metrics", "verdict", "training", "data", "licences", "manifest_sha256"})
# Parts of a branch that are not in the manifest while they have these values.
ABSENT: dict[str, Any] = {
    "relearnt_to": None,
    "regions": None,
    "shared": 0,
    "leak": None,
    "experts": [],
    "routing": "weighted",
}
ABSENT_PARTS: dict[str, Any] = {"verdict": None, "training": []}  # the same of the manifest itself
TRUNK_PART = "trunk"  # beside the tasks of branches: the part of a release that learns identities
DETECTOR_KEYS = ("detector", "orientation")  # of `licences` and `data`: the models in the detector's file


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How crops are cut, as the trunk expects them. Written to the manifest, so that a change of either is noticed."""

    template: tuple[tuple[float, float], ...] = SFACE.template
    """Five landmarks in crop pixels."""
    side: int = SFACE.side
    """Pixels."""

    @classmethod
    def of(cls, layout: TrunkLayout) -> Alignment:
        """Return the alignment of a trunk's crops."""
        return cls(template=layout.template, side=layout.side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a release serves any group of people worse than the release that it was made from."""

    base: str
    """Name of the release before."""
    base_fingerprint: str
    """Its `Manifest.fingerprint`."""
    judged: int
    """Groups of all sets and heads that were compared, each with enough labelled faces to be judged."""
    worse: tuple[str, ...]
    """The groups that got worse, a sentence each; empty is good."""
    data: tuple[str, ...]
    """The sets on whose test rows both releases were measured."""
    made_at: str
    """UTC, ISO 8601."""

    @property
    def is_good(self) -> bool:
        """Whether something was judged and no group got worse."""
        return self.judged > 0 and not self.worse


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A run of training from which parts of a release come."""

    recipe: str
    """Name of the recipe, or the objective of a trunk."""
    start: str
    """Weights of the trunk from which it started."""
    learnt: dict[str, tuple[str, ...]]
    """By data set, the parts that learnt from it: tasks of branches, TRUNK_PART."""
    seconds: float
    """From the start of the command to its weights. Crops and features that were at hand cost none."""
    device: str
    """Such as cpu, 2 threads, or the name of the GPU."""

    def only(self, parts: Collection[str]) -> TrainingRun | None:
        """Return what the run says of some parts; None where none of them is from it."""
        kept = {name: tuple(part for part in learnt if part in parts) for name, learnt in self.learnt.items()}
        kept = {name: learnt for name, learnt in kept.items() if learnt}
        return replace(self, learnt=kept) if kept else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything about a release except its weights."""

    name: str
    format: int = FORMAT
    detector: str = "retinaface-mobilenet-0.25"
    trunk: str = "sface-2021dec"
    """Name of the trunk and its weights, see `models.trunks.base.TrunkName`."""
    detection: DetectionPolicy = field(default_factory=DetectionPolicy)
    alignment: Alignment = field(default_factory=Alignment)
    quality: QualityPolicy = field(default_factory=QualityPolicy)
    branches: tuple[BranchSpec, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each weights file; set when the release is written."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Evaluation results, by task."""
    verdict: Verdict | None = None
    """Comparison with the release that it was made from; None where there was none."""
    training: tuple[TrainingRun, ...] = ()
    """Runs that trunk and branches come from, in their order; empty where the release was written before runs were."""
    data: dict[str, Any] = field(default_factory=dict)
    """Data sets of training and evaluation, with the terms of each."""
    licences: dict[str, str] = field(default_factory=dict)
    """Licence and source of each weights file."""

    @property
    def layout(self) -> TrunkLayout:
        """Layout of the trunk.

        Raises:
            ReleaseError: the trunk is unknown to this program.
        """
        return layout_of(self.trunk)

    @property
    def weights_sha256(self) -> str:
        """SHA-256 over the names and hashes of all weights files."""
        return sha256_of_json(self.files)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes stored faces: weights, policies, branches, alignment."""
        return fingerprint_of(self.plain())

    def plain(self) -> dict[str, Any]:
        """Return all fields, ready for JSON, without those in ABSENT_PARTS and ABSENT that there are none of.

        Releases that were written before there were any keep their text and fingerprints.
        """
        content: dict[str, Any] = _adapter().dump_python(self, mode="json")
        for branch in content["branches"]:
            for key, none in ABSENT.items():
                if branch[key] == none:
                    del branch[key]
        return {key: value for key, value in content.items() if ABSENT_PARTS.get(key, content) != value}

    def canonical(self) -> Manifest:
        """Return the manifest as its file is read back: 16 in a field of fractions becomes 16.0."""
        return _adapter().validate_python(self.plain())

    def to_json(self) -> str:
        """Return the JSON text of `release.json`, with its own hash."""
        content = self.plain()
        return json.dumps({"manifest_sha256": sha256_of_json(content), **content}, indent=2, allow_nan=False) + "\n"

    def on_trunk(self, name: str) -> Manifest:
        """Return a copy for another trunk, without branches, since each fits one trunk only.

        Raises:
            ReleaseError: the trunk is unknown to this program.
        """
        return replace(
            self,
            trunk=name,
            alignment=Alignment.of(layout_of(name)),
            branches=(),
            files={},
            metrics={},
            verdict=None,
            training=(),
        )

    def check(self) -> None:
        """Refuse a manifest that contradicts itself.

        Raises:
            ReleaseError: trunk, alignment and branches do not fit together.
        """
        expected = Alignment.of(self.layout)
        if self.alignment != expected:
            raise ReleaseError(
                f"release {self.name} cuts crops by {self.alignment}, its trunk {self.trunk} takes {expected}: "
                "restore it, or update this program"
            )
        tasks = [spec.task for spec in self.branches]
        if len(set(tasks)) < len(tasks):
            raise ReleaseError(f"release {self.name} has branches {', '.join(tasks)}, expected one a task: remove one")
        for spec in self.branches:
            try:
                spec.check_fits(self.layout)
            except ValueError as err:
                raise ReleaseError(f"release {self.name} on trunk {self.trunk}: {err}") from err

    def with_files(self, hashes: Mapping[str, str]) -> Manifest:
        """Return a copy that names these files."""
        return replace(self, files=dict(sorted(hashes.items())))


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """Return the fingerprint of a manifest by its fields, as `Manifest.plain` returns them or its file has them."""
    return sha256_of_json({key: value for key, value in content.items() if key not in DESCRIPTIVE})


def of_detector(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Return those of a manifest's `licences` or `data` that go wherever the detector's file goes."""
    return {key: entries[key] for key in DETECTOR_KEYS if key in entries}


def branch_file(task: str) -> str:
    """Return the name of a branch's weights file."""
    return f"branch-{task}.safetensors"


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a release folder.

    Raises:
        ReleaseError: the file is missing, was changed by hand or is of another format.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
    except OSError as err:
        raise ReleaseError(f"{path} cannot be read ({err.strerror}): give the folder of a release") from err
    except ValueError as err:
        raise ReleaseError(f"{path} is no JSON ({err}): restore it") from err
    if not isinstance(content, dict):
        raise ReleaseError(f"{path} holds no object: restore it")
    expected = content.pop("manifest_sha256", None)
    if content.get("format") != FORMAT:
        raise ReleaseError(
            f"{path} has format {content.get('format')!r}, this program reads {FORMAT}: update one of them"
        )
    if expected != sha256_of_json(content):
        raise ReleaseError(f"{path} was changed after it was written: restore it, or write it with models.release")
    return _parse(content, path)


def from_plain(content: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a registered release.

    Args:
        content: the fields of `Manifest.to_json`, as a database keeps them.

    Raises:
        ReleaseError: this program does not know one of them.
    """
    return _parse({key: value for key, value in content.items() if key != "manifest_sha256"}, "the registered manifest")


def _parse(content: dict[str, Any], path: Path | str) -> Manifest:
    try:
        manifest = _adapter().validate_python(content)
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(f"{path}: {place}: {first['msg']}: restore it, or write it with models.release") from err
    manifest.check()
    return manifest


@functools.cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def sha256_of_json(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a value's canonical JSON: keys in order, no white space."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
