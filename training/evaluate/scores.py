"""Findings from the answers of a release for labelled faces."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.data.face_sets import EMOTIONS, ETHNICITIES, GENDERS, ORIGINAL_EMOTIONS, UNKNOWN, BinnedPeople
from training.evaluate.age_bins import FOURTEEN, NINE, AgeBins
from training.evaluate.curves import abstention_curve, calibration_curve, confusion
from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import (
    balanced_accuracy,
    balanced_column_accuracy,
    binary_cross_entropy,
    calibration_error,
    cross_entropy,
    measure,
    measure_mean,
    root_mean_square_error,
)
from training.evaluate.outcomes import Outcomes
from training.evaluate.recalls import BALANCED, recall_findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data.face_sets import CelebA, FaceSet, Fer2013, People

# Name, first year and first year of the next: minors, then bands with some hundred test faces each.
AGE_BANDS = (("0-17", 0, 18), ("18-39", 18, 40), ("40-59", 40, 60), ("60+", 60, 200))
CROSS_ENTROPY = "cross-entropy"  # of the true label, in nats
EXACT_YEAR = "exact year"
COVERAGE = "80 % interval holds it"
# Bootstrap resamples of the balanced accuracy of forty attributes, which takes forty times as long as that of one.
MULTI_LABEL_DRAWS = 200

Groups = dict[str, "NDArray[np.bool_]"]  # (N,) members by name


def class_findings(
    data: str, task: str, head: HeadOutput, truth: NDArray[np.int64], members: tuple[FaceSet, Groups]
) -> Findings:
    """Measure accuracy, recalls, cross-entropy, calibration, abstention and confusions of a head with K classes.

    Args:
        data: name of the data set.
        task: name of the task.
        head: N answers.
        truth: (N,) class numbers, UNKNOWN where there is none: these faces are left out.
        members: the N faces and their groups.
    """
    known = truth != UNKNOWN
    faces, groups = members[0][known], {name: found[known] for name, found in members[1].items()}
    probabilities = head.probabilities.numpy()[known]
    truth = truth[known]
    if len(truth) == 0:
        return Findings()
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct, surprise = predicted == truth, cross_entropy(probabilities, truth)
    rows = [
        Row(data, task, "accuracy", measure_mean(correct)),
        Row(data, task, CROSS_ENTROPY, measure_mean(surprise)),
        Row(data, task, "calibration error", measure(calibration_error, confidence, correct)),
    ]
    if head.abstains is not None:
        answered = ~head.abstains.numpy()[known]
        rows.append(Row(data, task, "answered", measure_mean(answered)))
        rows.append(Row(data, task, "accuracy of answers", measure_mean(correct[answered])))
    place = (data, task, "accuracy")
    by_group = (*group_rows(place, correct, groups), *group_rows((data, task, CROSS_ENTROPY), surprise, groups))
    own = Findings(
        rows=(*rows, *by_group),
        confusions=(confusion(data, task, head.labels, predicted, truth),),
        curves=(
            calibration_curve(data, task, confidence, correct),
            abstention_curve(data, task, confidence, (~correct).astype(np.float32)),
        ),
        outcomes=(Outcomes.of(place, correct, faces.files.tolist(), groups, higher_is_better=True),),
    )
    return Findings.join(
        [own, recall_findings((data, task, BALANCED), head.labels, predicted, truth, faces.files.tolist())]
    )


def group_rows(place: tuple[str, str, str], values: NDArray[np.generic], groups: Groups) -> list[Row]:
    """Average the outcomes of each group: data, task and measure, (N,) values, members by group."""
    return [Row(*place, measure_mean(values[found]), name) for name, found in groups.items() if found.any()]


def age_findings(data: str, head: HeadOutput, years: NDArray[np.float32], members: tuple[FaceSet, Groups]) -> Findings:
    """Measure the errors of the age in years and in bins, and the share of ages in the 80 % interval, also by group.

    Where ages are known to the year, also the share of answers that are right to the year.
    """
    known = np.isfinite(years)
    if not known.all():
        chosen = {name: found[known] for name, found in members[1].items()}
        return age_findings(data, _of_rows(head, known), years[known], (members[0][known], chosen))
    if len(years) == 0:
        return Findings()
    value = np.asarray(head.value, dtype=np.float32)
    errors = np.abs(value - years)
    place = (data, "age", "mean absolute error")
    rows = [
        Row(*place, measure_mean(errors)),
        Row(data, "age", "root mean square error", measure(root_mean_square_error, value, years)),
    ]
    faces, groups = members
    binned = [_bin_findings(data, head, years, bins, groups) for bins in (NINE, FOURTEEN)]
    outcome = Outcomes.of(place, errors, faces.files.tolist(), groups, higher_is_better=False)
    own = Findings(rows=tuple(rows), outcomes=(outcome,))
    exact = [] if isinstance(faces, BinnedPeople) else [_year_findings(data, head, years, groups)]
    held = _coverage_findings(data, head, years, members)
    return Findings.join([own, held, *exact, *binned, Findings(rows=tuple(group_rows(place, errors, groups)))])


def _coverage_findings(
    data: str, head: HeadOutput, years: NDArray[np.float32], members: tuple[FaceSet, Groups]
) -> Findings:
    """Measure the share of ages in the 80 % interval, also by group; empty where the head has no interval."""
    if head.low is None or head.high is None:
        return Findings()
    low, high = head.low.numpy(), head.high.numpy()
    held, place = (low <= years) & (years <= high), (data, "age", COVERAGE)
    faces, groups = members
    errors = np.abs(np.asarray(head.value, dtype=np.float32) - years)
    return Findings(
        rows=(Row(*place, measure_mean(held)), *group_rows(place, held, groups)),
        curves=(abstention_curve(data, "age", low - high, errors),),
        outcomes=(Outcomes.of(place, held, faces.files.tolist(), groups, higher_is_better=True),),
    )


def _of_rows(head: HeadOutput, rows: NDArray[np.bool_]) -> HeadOutput:
    chosen = torch.from_numpy(rows)
    columns = ((name, getattr(head, name)) for name in ("probabilities", "value", "low", "high", "abstains"))
    return replace(head, codes=None, **{name: column[chosen] for name, column in columns if column is not None})


def _year_findings(data: str, head: HeadOutput, years: NDArray[np.float32], groups: Groups) -> Findings:
    """Measure how often the age in whole years is right, and the cross-entropy of the distribution, also by group."""
    label = np.floor(years).astype(np.int64)
    exact = np.floor(np.asarray(head.value, dtype=np.float32) + 0.5) == label
    surprise = cross_entropy(head.probabilities.numpy(), np.minimum(label, len(head.labels) - 1))
    return _everywhere((data, "age"), {EXACT_YEAR: exact, CROSS_ENTROPY: surprise}, groups)


def _bin_findings(data: str, head: HeadOutput, years: NDArray[np.float32], bins: AgeBins, groups: Groups) -> Findings:
    """Measure the accuracy of the most probable bin, exact and off by at most one, also by group."""
    predicted, truth = bins.most_probable(head.probabilities.numpy()), bins.of_years(years)
    values = {
        f"accuracy of {bins.name}": predicted == truth,
        f"accuracy of {bins.name}, one off counts": np.abs(predicted - truth) <= 1,
    }
    table = confusion(data, f"age, {bins.name}", bins.labels, predicted, truth)
    return Findings.join([_everywhere((data, "age"), values, groups), Findings(confusions=(table,))])


def _everywhere(place: tuple[str, str], values: Mapping[str, NDArray[np.generic]], groups: Groups) -> Findings:
    """Average (N,) outcomes by measure over all faces, then those of each group: data and task."""
    rows = [Row(*place, name, measure_mean(found)) for name, found in values.items()]
    by_group = [row for name, found in values.items() for row in group_rows((*place, name), found, groups)]
    return Findings(rows=(*rows, *by_group))


def people_findings(heads: Mapping[str, HeadOutput], faces: People) -> Findings:
    """Measure gender, ethnicity and age, for all faces and by group; faces without a label are left out."""
    members = (faces, dict(groups(faces)))
    parts = []
    for task, truth in (("gender", faces.gender), ("ethnicity", faces.ethnicity)):
        if task in heads:
            parts.append(class_findings(faces.name, task, heads[task], truth, members))
    if "age" in heads:
        parts.append(age_findings(faces.name, heads["age"], faces.age, members))
    return Findings.join(parts)


def groups(faces: People) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each gender, ethnicity, age band and each combination of the three that occurs, with its members."""
    bands = {name: (faces.age >= first) & (faces.age < end) for name, first, end in AGE_BANDS}
    genders = {name: faces.gender == number for number, name in enumerate(GENDERS)}
    ethnicities = {name: faces.ethnicity == number for number, name in enumerate(ETHNICITIES)}
    for single in (genders, ethnicities, bands):
        yield from ((name, members) for name, members in single.items() if members.any())
    for gender, of_gender in genders.items():
        for ethnicity, of_both in ethnicities.items():
            for band, of_band in bands.items():
                members = of_gender & of_both & of_band
                if members.any():
                    yield f"{gender} / {ethnicity} / {band}", members


def emotion_findings(heads: Mapping[str, HeadOutput], faces: Fer2013) -> Findings:
    """Measure emotion against the majority of FER+, and against the seven labels of FER2013.

    The seven come from the head `emotion7` if there is one, else from the eight without contempt.
    """
    parts = []
    if "emotion" in heads:
        parts.append(class_findings("ferplus", "emotion", heads["emotion"], faces.majority, (faces, {})))
    if "emotion7" in heads:
        truth = emotion_numbers(heads["emotion7"])[faces.original]
        parts.append(class_findings("fer2013", "emotion7", heads["emotion7"], truth, (faces, {})))
    elif "emotion" in heads:
        parts.append(_derived_seven(heads["emotion"], faces))
    return Findings.join(parts)


def emotion_numbers(head: HeadOutput) -> NDArray[np.int64]:
    """Return the numbers that a head's labels give to EMOTIONS and, at the end, to UNKNOWN; UNKNOWN if it has none."""
    numbers = [head.labels.index(name) if name in head.labels else UNKNOWN for name in EMOTIONS]
    return np.array([*numbers, UNKNOWN], dtype=np.int64)


def _derived_seven(head: HeadOutput, faces: Fer2013) -> Findings:
    seven = [head.labels.index(name) for name in ORIGINAL_EMOTIONS]
    number = np.array([EMOTIONS.index(name) for name in ORIGINAL_EMOTIONS])
    predicted = number[head.probabilities.numpy()[:, seven].argmax(axis=1)]
    correct = predicted == faces.original
    place = ("fer2013", "emotion", "accuracy of seven")
    files = faces.files.tolist()
    recalls = recall_findings(
        ("fer2013", "emotion", f"{BALANCED} of seven"), EMOTIONS, predicted, faces.original, files
    )
    own = Findings(
        rows=(Row(*place, measure_mean(correct)),),
        confusions=(confusion("fer2013", "emotion, seven", EMOTIONS, predicted, faces.original),),
        outcomes=(Outcomes.of(place, correct, files, {}, higher_is_better=True),),
    )
    return Findings.join([own, recalls])


def attribute_findings(head: HeadOutput, faces: CelebA) -> Findings:
    """Measure the mean accuracy over the attributes that release and data set share, and that of each."""
    shared = [name for name in faces.names if name in head.labels]
    probabilities = head.probabilities.numpy()[:, [head.labels.index(name) for name in shared]]
    truth = faces.attributes[:, [faces.names.index(name) for name in shared]] > 0.5
    correct = (probabilities > 0.5) == truth
    place = (faces.name, "attributes", "mean accuracy")
    balanced = measure(balanced_column_accuracy, probabilities, truth, draws=MULTI_LABEL_DRAWS)
    surprise = binary_cross_entropy(probabilities, truth)
    confidence = (np.abs(probabilities - 0.5) + 0.5).astype(np.float32)
    return Findings(
        rows=(
            Row(*place, measure_mean(correct.mean(axis=1))),
            Row(faces.name, "attributes", "mean balanced accuracy", balanced),
            Row(faces.name, "attributes", CROSS_ENTROPY, measure_mean(surprise.mean(axis=1))),
            *_attribute_rows(faces.name, shared, probabilities > 0.5, truth),
        ),
        curves=(calibration_curve(faces.name, "attributes", confidence.ravel(), correct.ravel()),),
        outcomes=(Outcomes.of(place, correct.mean(axis=1), faces.files.tolist(), {}, higher_is_better=True),),
    )


def _attribute_rows(
    data: str, names: Sequence[str], given: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> Iterator[Row]:
    """Yield accuracy and balanced accuracy of each attribute; the latter where some faces have it and some do not."""
    for k, name in enumerate(names):
        yield Row(data, "attributes", "accuracy", measure_mean(given[:, k] == truth[:, k]), name)
        if truth[:, k].any() and not truth[:, k].all():
            balanced = measure(balanced_accuracy, given[:, k], truth[:, k], draws=MULTI_LABEL_DRAWS)
            yield Row(data, "attributes", "balanced accuracy", balanced, name)
