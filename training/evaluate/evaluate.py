"""Measures a release on labelled sets as its users get it: its own detector, aligner, model and thresholds."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import track

from models.manifest import TrainingRun  # noqa: TC001 - pydantic reads the annotations
from models.types import FaceOutputs, HeadOutput
from training.data.crops import crop_faces
from training.data.expressions import read_film_faces, read_lfw_expressions
from training.data.face_sets import read_lfw, read_lfw_genders, read_wider
from training.data.published_sets import read_adience, read_fairface
from training.data.sets import load_celeba, load_fer2013, load_utkface
from training.errors import DataError
from training.evaluate.curves import Confusion, Curve  # noqa: TC001 - pydantic reads the annotations
from training.evaluate.detection import ImageTally, detect_images
from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import Figure, measure, measure_mean
from training.evaluate.operating_points import operating_point, shared_operating_point
from training.evaluate.outcomes import Outcomes  # noqa: TC001 - pydantic reads the annotations
from training.evaluate.robustness.consistency import consistency_findings
from training.evaluate.robustness.cross_domain import lfw_gender_findings, photo_findings
from training.evaluate.robustness.degraded import (
    attribute_values,
    degraded_findings,
    emotion_values,
    people_values,
)
from training.evaluate.robustness.expression_scores import (
    expression_findings,
    film_identity_findings,
    person_groups,
)
from training.evaluate.robustness.hard_pairs import hard_pair_findings
from training.evaluate.robustness.sizes import size_findings
from training.evaluate.scores import attribute_findings, emotion_findings, people_findings
from training.evaluate.verification import verification_findings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.release import Release
    from models.trunks.base import TrunkLayout
    from training.data.face_sets import FaceSet, People
    from training.evaluate.robustness.degraded import FaceValues, Heads

_log = logging.getLogger(__name__)

INFER_BATCH = 64  # crops per call of the release
DEGRADED_FACES = 1000  # of each set: 16 copies take a minute of two processors


@dataclass(frozen=True, slots=True)
class SetFacts:
    """How the faces of one set were found."""

    data: str
    images: int
    first_view: int
    """Images whose face was found in the first view."""
    later_views: int
    """Images whose face was found after more resizing or framing."""
    missed: int
    """Images in which no face was found: they are cut at the median landmarks of the others, and scored like these."""
    measured: str = "all rows"
    """The rows of the set that were measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFacts:
    """Cost and origin of a release, kept with its figures."""

    trunk: str
    """Name of the trunk and its weights."""
    macs: int
    """Multiply-adds of a face with identity and all heads."""
    parameters: int
    """Learnt numbers of trunk and branches; shared layers count once."""
    bytes: int
    """Of all weights files, the detector's among them."""
    data: tuple[str, ...]
    """Labelled sets that trunk or branches learnt from."""
    training: tuple[TrainingRun, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one release on one data folder."""

    release: str
    weights_sha256: str
    split: str
    sets: tuple[SetFacts, ...]
    rows: tuple[Row, ...]
    confusions: tuple[Confusion, ...] = ()
    curves: tuple[Curve, ...] = ()
    outcomes: tuple[Outcomes, ...] = ()
    temperatures: dict[str, float] = field(default_factory=dict)
    """By task: divisor of the logits, from the calibration of the release."""
    facts: ReleaseFacts | None = None

    def brief(self) -> Evaluation:
        """Return the figures without matrices, curves, outcomes of single faces and combinations of groups."""
        rows = tuple(row for row in self.rows if " / " not in row.group)
        return replace(self, rows=rows, confusions=(), curves=(), outcomes=())

    def to_json(self) -> str:
        """Write everything as JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read the JSON of ``to_json``.

        Raises:
            DataError: it is no such JSON.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as err:
            first = err.errors()[0]
            raise DataError(f"this is no JSON of facet-train evaluate --json ({first['loc']}: {first['msg']})") from err

    @classmethod
    def join(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """Join the figures of several sets.

        Raises:
            DataError: they are not of one release and split.
        """
        makers = {(part.release, part.weights_sha256, part.split) for part in parts}
        if len(makers) != 1:
            raise DataError(f"got figures of {sorted(makers)}, expected those of one release, weights and split")
        return replace(
            parts[0],
            sets=tuple(facts for part in parts for facts in part.sets),
            rows=tuple(row for part in parts for row in part.rows),
            confusions=tuple(one for part in parts for one in part.confusions),
            curves=tuple(one for part in parts for one in part.curves),
            outcomes=tuple(one for part in parts for one in part.outcomes),
        )

    def find(self, data: str, task: str, name: str, group: str = "all") -> Figure | None:
        """Return one figure, or None where it was not measured."""
        wanted = (data, task, name, group)
        return next((r.figure for r in self.rows if (r.data, r.task, r.measure, r.group) == wanted), None)


Faces = TypeVar("Faces", bound="FaceSet")

# As a split: every row of every set.
ALL_ROWS = "all"


def chosen_rows(faces: Faces, split: str) -> tuple[Faces, str]:
    """Return the faces of a split and a description of them; all faces where the set has no such split."""
    rows = np.flatnonzero(faces.split == split)
    if split == ALL_ROWS:
        return faces, "all rows"
    if len(rows) == 0 and len(faces):
        there = ", ".join(sorted(set(faces.split.tolist())))
        facts = {"action": "whole_set", "set": faces.name, "split": split}
        _log.warning("%s has no %s rows, so all of its rows are measured (%s)", faces.name, split, there, extra=facts)
        return faces, f"all rows ({there}): none is of split {split}"
    return faces[rows], f"split {split}"


@dataclass(slots=True)
class _Evaluator:
    release: Release
    data: Path
    options: EvaluateOptions
    sets: list[SetFacts]

    def outputs(self, faces: FaceSet, measured: str = "all rows") -> FaceOutputs:
        """Detect, align and infer the faces of a set, and record how they were found."""
        return infer(self.release, self.pixels(faces, measured))

    def pixels(self, faces: FaceSet, measured: str) -> NDArray[np.uint8]:
        """Detect and align the faces of a set, (N, 3, S, S), and record how they were found."""
        crops = crop_faces(faces, self.release.detector, self.options.cache, self.release.layout)
        by_view = np.bincount(crops.found_by, minlength=256)
        later = int(by_view[1:255].sum())
        self.sets.append(SetFacts(faces.name, len(faces), int(by_view[0]), later, crops.missed, measured))
        return crops.pixels

    def utkface(self) -> Findings:
        return self._people(load_utkface(self.data))

    def fairface(self) -> Findings:
        return self._people(read_fairface(self.data))

    def adience(self) -> Findings:
        return self._people(read_adience(self.data))

    def _people(self, every: People) -> Findings:
        faces, measured = chosen_rows(every, self.options.split)
        crops = self.pixels(faces, measured)
        heads = infer(self.release, crops).heads
        parts = [people_findings(heads, faces), consistency_findings(heads, faces)]
        parts.append(self._degraded(crops, faces, people_values))
        if "ethnicity" in heads:
            parts.append(operating_point(heads["ethnicity"], faces, self.release.spec("ethnicity").thresholds))
            parts.append(shared_operating_point(heads["ethnicity"], faces))
        if self.options.sizes:
            parts.append(size_findings(self.release, faces))
        return Findings.join(parts)

    def fer2013(self) -> Findings:
        faces, measured = chosen_rows(load_fer2013(self.data), self.options.split)
        crops = self.pixels(faces, measured)
        clean = emotion_findings(infer(self.release, crops).heads, faces)
        return Findings.join([clean, self._degraded(crops, faces, emotion_values)])

    def celeba10k(self) -> Findings:
        faces, measured = chosen_rows(load_celeba(self.data), self.options.split)
        crops = self.pixels(faces, measured)
        heads = infer(self.release, crops).heads
        own = [attribute_findings(heads["attributes"], faces)] if "attributes" in heads else []
        across = [photo_findings(heads, faces), consistency_findings(heads, faces)]
        return Findings.join([*own, *across, self._degraded(crops, faces, attribute_values)])

    def _degraded(
        self, crops: NDArray[np.uint8], faces: Faces, values: Callable[[Heads, Faces], Iterator[FaceValues]]
    ) -> Findings:
        """Measure some of the faces on degraded copies of their crops."""
        rows = np.sort(np.random.default_rng(0).permutation(len(faces))[: self.options.degraded])
        some = faces[rows]
        return degraded_findings(
            lambda pixels: infer(self.release, pixels).heads, crops[rows], some, lambda heads: values(heads, some)
        )

    def lfw(self) -> Findings:
        every, pairs = read_lfw(self.data)
        there = np.array([path.is_file() for path in every.paths()], dtype=np.bool_)
        faces, found = every[there], pairs.among(there)
        measured = f"{len(found)} of {len(pairs)} pairs of View 2"
        crops = self.pixels(faces, measured)
        outputs = infer(self.release, crops)
        parts = [verification_findings(outputs.embeddings.numpy(), faces, found)]
        for depth in bottlenecks(self.release.layout):
            embeddings = self.release.model.embed_at(torch.from_numpy(crops), depth).numpy()
            parts.append(verification_findings(embeddings, faces, found, f"verification at {depth}"))
        genders = lfw_gender_findings(outputs.heads, faces, read_lfw_genders(self.data))
        return Findings.join([*parts, genders, self._lfw_people()])

    def _lfw_people(self) -> Findings:
        """Measure all images of the people that no trunk learns from; empty where the people are not divided."""
        if not (self.data / "lfw" / "persons_split.csv").is_file():
            return Findings()
        every = read_lfw_expressions(self.data)
        there = np.array([path.is_file() for path in every.paths()], dtype=np.bool_)
        faces = every[there & (every.split != "train")]
        crops = self.pixels(faces, "people of splits val and test")
        outputs = infer(self.release, crops)
        hard = hard_pair_findings(outputs, lambda pixels: infer(self.release, pixels), crops, faces)
        heads = outputs.heads
        return Findings.join([hard, expression_findings(heads, faces), consistency_findings(heads, faces)])

    def film_faces(self) -> Findings:
        faces, measured = chosen_rows(read_film_faces(self.data), self.options.split)
        outputs = self.outputs(faces, measured)
        identity = film_identity_findings(outputs.embeddings.numpy(), faces)
        expressions = expression_findings(outputs.heads, faces, person_groups(faces))
        return Findings.join([expressions, consistency_findings(outputs.heads, faces), identity])

    def widerface_subset(self) -> Findings:
        found = detect_images(read_wider(self.data), self.release)
        return Findings(rows=(*detection_rows("all boxes", found.detected), *detection_rows("faces kept", found.kept)))


# Folders that are looked for.
SETS = ("utkface", "fairface", "adience", "fer2013", "celeba10k", "lfw", "film_faces", "widerface_subset")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """The sets and rows to measure."""

    split: str = "test"
    """Of the sets that have splits; ALL_ROWS for everything. A set without a row of this split is measured whole."""
    sets: tuple[str, ...] = SETS
    cache: Path | None = None
    """Folder for aligned crops; None keeps none."""
    sizes: bool = False
    """Whether faces are also measured by size, on shrunken images of the sets with people."""
    degraded: int = DEGRADED_FACES
    """Faces of each set with labels for our heads, at most, that are also measured on degraded copies; 0 for none."""


def evaluate(release: Release, data: Path, options: EvaluateOptions | None = None) -> Evaluation:
    """Measure a release on every set that a data folder holds.

    Args:
        release: as loaded for analysis.
        data: folder with any of SETS, in the layout of docs/evaluation.md.
        options: sets and rows; None for the test rows of every set that is there.

    Raises:
        DataError: the folder holds none of the sets.
    """
    chosen = options or EvaluateOptions()
    present = [name for name in SETS if name in chosen.sets and (data / name).is_dir()]
    if not present:
        raise DataError(f"{data} holds no data set; expected at least one of the folders {', '.join(chosen.sets)}")
    evaluator = _Evaluator(release, data, chosen, [])
    parts: list[Findings] = []
    for name in track(present, console=Console(stderr=True), disable=not sys.stderr.isatty()):
        read: Callable[[], Findings] = getattr(evaluator, name)
        parts.append(read())
        _log.info("evaluated %s", name, extra={"action": "evaluated", "set": name})
    found = Findings.join(parts)
    return Evaluation(
        release.name,
        release.weights_sha256,
        chosen.split,
        tuple(evaluator.sets),
        found.rows,
        found.confusions,
        found.curves,
        found.outcomes,
        {spec.task: spec.temperature for spec in release.manifest.branches},
    )


def detection_rows(which: str, tallies: list[ImageTally]) -> list[Row]:
    """Compute recall and false positives per image; their intervals resample images, not faces."""
    faces = np.array([t.faces for t in tallies])
    found = np.array([t.found for t in tallies])
    recall = measure(lambda f, n: float(f.sum() / max(n.sum(), 1)), found, faces)
    false = measure_mean(np.array([t.false_positives for t in tallies]))
    return [
        Row("widerface_subset", f"detection, {which}", "recall of faces of 16 px or more", recall),
        Row("widerface_subset", f"detection, {which}", "false positives per photo", false),
    ]


def bottlenecks(layout: TrunkLayout) -> list[str]:
    """Return the depths before the embedding at which a face is one vector, which the paper of face24 compares."""
    vectors = [depth for depth, shape in layout.maps.items() if shape[1:] == (1, 1)]
    return [depth for depth in vectors if depth != layout.last_map]


def infer(release: Release, crops: NDArray[np.uint8]) -> FaceOutputs:
    """Run (N, 3, S, S) crops through a release in batches."""
    starts = range(0, max(len(crops), 1), INFER_BATCH)
    parts = [release.infer(torch.from_numpy(np.array(crops[start : start + INFER_BATCH]))) for start in starts]
    heads = {task: _join([part.heads[task] for part in parts]) for task in parts[0].heads}
    return FaceOutputs(torch.cat([part.embeddings for part in parts]).cpu(), heads)


def _join(parts: list[HeadOutput]) -> HeadOutput:
    names = ("probabilities", "value", "low", "high", "abstains")
    columns = {name: [getattr(part, name) for part in parts] for name in names}
    joined: dict[str, Any] = {name: torch.cat(given).cpu() for name, given in columns.items() if given[0] is not None}
    return replace(parts[0], codes=None, **joined | {"probabilities": joined["probabilities"].float()})
