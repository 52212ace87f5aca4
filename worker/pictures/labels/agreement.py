"""Agreement of the heads with the labels of people: of all faces, by group, and of people among themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from db.reader.run_query import run_query
from worker.pictures.labels.figures import Answers, Figure, accuracy, bias, icc, kappa, mean_error, with_interval
from worker.types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from worker.pictures.labels.folder import Design
    from worker.pictures.labels.reading import Label

ALL, PEOPLE = "all", "between people"
GROUPED_BY = ("gender", "ethnicity", "age")
MAX_DECADE = 70

Value = str | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of one head with people, of one group of faces."""

    head: str
    group: str
    """all, a group by the labels of people such as gender=female, or between people."""
    faces: int
    """Faces of the group that people labelled and the head answered."""
    answered: float | None
    """Share of the labelled faces that the head answered."""
    accuracy: Figure | None = None
    """Of a head with labels."""
    kappa: Figure | None = None
    """Cohen's."""
    mean_error: Figure | None = None
    """Of the age: mean absolute difference in years."""
    bias: Figure | None = None
    """Of the age: mean difference; positive where the head gives more years."""
    icc: Figure | None = None
    """Of the age: intraclass correlation, absolute agreement of single answers."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Agreements, and what did not enter them."""

    rows: tuple[Agreement, ...]
    gone: int
    """Labelled faces that the archive no longer has under the active release."""
    foreign: int
    """Labelled faces that are not of the sample."""
    undecided: int
    """Answers in which people differed so that none has a majority."""


@dataclass(frozen=True, slots=True)
class _Reference:
    """The labels of people on one head, by face."""

    values: dict[int, Value]
    undecided: int
    pairs: list[tuple[int, Value, Value]]
    """Face and two labels, of faces that several people labelled."""


def measure_agreement(url: str, design: Design, labels: Sequence[Label]) -> Compared:
    """Compare labels with what the active release reads now, as the reader."""
    labelled = {one.face_id for one in labels}
    of_sample = labelled & design.faces.keys()
    read = _read(url, sorted(of_sample), tuple(design.heads))
    references = {
        head: _reference([one for one in labels if one.head == head and one.face_id in read], head, design)
        for head in design.heads
    }
    rows = list[Agreement]()
    for head, reference in references.items():
        scale = _Scale(head, design, reference.values)
        given = {face: read[face][head] for face in reference.values}
        rows.append(scale.agreement(ALL, reference.values, given))
        for group, faces in _groups(references).items():
            truth = {face: value for face, value in reference.values.items() if face in faces}
            if truth:
                rows.append(scale.agreement(group, truth, given))
        if reference.pairs:
            first, second = ({face: pair[side] for face, *pair in reference.pairs} for side in (0, 1))
            rows.append(_Scale(head, design, first).figures(PEOPLE, first, second, None))
    undecided = sum(one.undecided for one in references.values())
    return Compared(tuple(rows), len(of_sample) - len(read), len(labelled) - len(of_sample), undecided)


def _read(url: str, faces: Sequence[int], heads: Sequence[str]) -> dict[int, dict[str, Value | None]]:
    query = f"SELECT face_id, {', '.join(heads)} FROM faces WHERE face_id = ANY(%(faces)s)"  # noqa: S608 - names of heads
    with run_query(url, query, parameters={"faces": list(faces)}, timeout_seconds=300.0) as rows:
        return {int(str(row[0])): dict(zip(heads, row[1:], strict=True)) for row in rows}


def _reference(labels: Sequence[Label], head: str, design: Design) -> _Reference:
    """Return the majority of the labels of each face, and the median of years."""
    by_face: dict[int, dict[str, Value]] = defaultdict(dict)
    for one in labels:
        by_face[one.face_id][one.labeller] = one.value
    values: dict[int, Value] = {}
    pairs, undecided = [], 0
    for face, given in by_face.items():
        if len(given) > 1:
            first, second = sorted(given)[:2]
            pairs.append((face, given[first], given[second]))
        if not design.heads[head]:
            values[face] = median(float(one) for one in given.values())
            continue
        (best, count), *others = Counter(given.values()).most_common()
        if others and others[0][1] == count:
            undecided += 1
        else:
            values[face] = best
    return _Reference(values, undecided, pairs)


def _groups(references: Mapping[str, _Reference]) -> dict[str, set[int]]:
    """Return the faces of each group by the labels of people, in order."""
    groups: dict[str, set[int]] = defaultdict(set)
    for head in GROUPED_BY:
        for face, value in references[head].values.items() if head in references else ():
            groups[f"{head}={_decade(value) if isinstance(value, float) else value}"].add(face)
    return dict(sorted(groups.items()))


def _decade(years: float) -> str:
    start = int(years // 10) * 10
    return f"{MAX_DECADE} and more" if start >= MAX_DECADE else f"{start} to {start + 9}"


class _Scale:
    """Compares answers on one head, each face with its weight: the appearances of its stratum that it stands for."""

    def __init__(self, head: str, design: Design, labelled: Collection[int]) -> None:
        """Weigh faces; those that people labelled share the population of their stratum."""
        self._head = head
        self._strata = {face: design.faces[face] for face in labelled}
        sizes = Counter(self._strata.values())
        self._weights = {face: design.strata[one].population / sizes[one] for face, one in self._strata.items()}
        self._is_number = not design.heads[head]
        self._codes: dict[str, int] = {}

    def agreement(self, group: str, truth: Mapping[int, Value], given: Mapping[int, Value | None]) -> Agreement:
        """Compare the labels of a group with what the head gave; faces that it did not answer are a share."""
        answered = {face: given[face] for face in truth if given[face] is not None and given[face] != UNKNOWN}
        whole = sum(self._weights[face] for face in truth)
        share = sum(self._weights[face] for face in answered) / whole if whole else None
        return self.figures(group, truth, answered, share)

    def figures(
        self, group: str, truth: Mapping[int, Value], other: Mapping[int, Value | None], answered: float | None
    ) -> Agreement:
        """Compare two answers on the faces that have both."""
        faces = sorted(truth.keys() & other.keys())
        answers = Answers(
            self._numbers([truth[face] for face in faces]),
            self._numbers([other[face] for face in faces]),
            np.array([self._weights[face] for face in faces], np.float64),
            np.array([self._strata[face] for face in faces], np.int64),
        )
        whole = Agreement(head=self._head, group=group, faces=len(faces), answered=answered)
        if self._is_number:
            off, shift, agreed = (with_interval(one, answers) for one in (mean_error, bias, icc))
            return replace(whole, mean_error=off, bias=shift, icc=agreed)
        return replace(whole, accuracy=accuracy(answers), kappa=with_interval(kappa, answers))

    def _numbers(self, values: Sequence[Value | None]) -> NDArray[np.float64]:
        """Return years, or a number for each label."""
        if self._is_number:
            return np.array(values, np.float64)
        return np.array([self._codes.setdefault(str(value), len(self._codes)) for value in values], np.float64)
