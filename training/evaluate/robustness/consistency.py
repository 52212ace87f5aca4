"""Heads against each other: how often two answers for one face contradict.

No label is needed, so it is measured on every set. A user who asks both heads sees the contradiction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.data.face_sets import GENDERS
from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import measure_mean
from training.evaluate.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data.face_sets import FaceSet

CONTRADICTIONS = "contradictions"
MALE_TASK, YOUNG_TASK = "gender against Male", "age against Young"
# Years below which a face is young, and above which it is not; in between both answers of the attribute agree with it.
YOUNG_BELOW, OLD_ABOVE = 30.0, 50.0


@dataclass(frozen=True, slots=True)
class Contradiction:
    """The faces that two heads contradict each other about."""

    task: str
    found: NDArray[np.bool_]
    """(N,) whether the answers exclude each other."""


def contradictions(heads: Mapping[str, HeadOutput]) -> Iterator[Contradiction]:
    """Compare gender with the attribute `Male`, and age with `Young`, as far as there are both."""
    attributes = heads.get("attributes")
    if attributes is None:
        return
    if "gender" in heads and "Male" in attributes.labels:
        gender = heads["gender"]
        male = gender.probabilities.numpy().argmax(axis=1) == gender.labels.index(GENDERS[0])
        yield Contradiction(MALE_TASK, male != _has(attributes, "Male"))
    if "age" in heads and "Young" in attributes.labels:
        years, young = np.asarray(heads["age"].value, dtype=np.float32), _has(attributes, "Young")
        yield Contradiction(YOUNG_TASK, np.where(young, years > OLD_ABOVE, years < YOUNG_BELOW))


def _has(attributes: HeadOutput, name: str) -> NDArray[np.bool_]:
    return np.asarray(attributes.probabilities.numpy()[:, attributes.labels.index(name)] > 0.5)


def consistency_findings(heads: Mapping[str, HeadOutput], faces: FaceSet) -> Findings:
    """Measure the share of N faces for which two heads contradict each other."""
    if len(faces) == 0:
        return Findings()
    parts = []
    for one in contradictions(heads):
        place = (faces.name, one.task, CONTRADICTIONS)
        outcome = Outcomes.of(place, one.found, faces.files.tolist(), {}, higher_is_better=False)
        parts.append(Findings(rows=(Row(*place, measure_mean(one.found)),), outcomes=(outcome,)))
    return Findings.join(parts)
