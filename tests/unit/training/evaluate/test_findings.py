"""Bins, curves, matrices, outcomes and operating points, on values small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.types import HeadOutput
from training.data import face_sets as data
from training.data.face_sets import UNKNOWN, BinnedPeople, UtkFace
from training.evaluate import operating_points as operating
from training.evaluate import scores
from training.evaluate.age_bins import FOURTEEN, NINE
from training.evaluate.curves import abstention_curve, calibration_curve, confusion
from training.evaluate.metrics import measure_mean, true_positives_at
from training.evaluate.outcomes import Outcomes
from training.evaluate.robustness import sizes


def people(**columns):
    count = len(columns["age"])
    usual = {
        "gender": np.zeros(count, dtype=np.int64),
        "ethnicity": np.zeros(count, dtype=np.int64),
        "race": np.full(count, UNKNOWN),
        "age_span": np.stack([columns["age"]] * 2, axis=1),
    }
    return BinnedPeople(
        name="made",
        root=None,
        files=np.array([f"{n}.jpg" for n in range(count)]),
        split=np.full(count, "test"),
        **(usual | columns),
    )


def test_both_divisions_cover_all_ages_and_name_their_bins():
    assert (len(NINE), len(FOURTEEN)) == (9, 14)
    assert NINE.labels == ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
    assert FOURTEEN.labels[:6] == ("0-2", "3-5", "6-9", "10-14", "15-19", "20-24")
    years = np.array([0, 2, 2.9, 3, 69.9, 70, 116], dtype=np.float32)
    assert NINE.of_years(years).tolist() == [0, 0, 0, 1, 7, 8, 8]
    assert FOURTEEN.of_years(years).tolist() == [0, 0, 0, 1, 12, 13, 13]


def test_the_most_probable_bin_wins_though_the_most_probable_year_is_in_another():
    probabilities = np.zeros((1, 117), dtype=np.float32)
    probabilities[0, 1] = 0.4
    probabilities[0, 30:36] = 0.1
    assert NINE.most_probable(probabilities).tolist() == [4]


def test_age_bins_are_scored_exactly_and_one_off():
    head = HeadOutput(tuple(map(str, range(117))), torch.eye(117)[[25, 25]], torch.tensor([25.0, 25.0]))
    found = scores.age_findings("made", head, np.array([29, 31], np.float32), (people(age=np.array([29.0, 31])), {}))
    figures = {row.measure: row.figure.value for row in found.rows}
    assert figures["accuracy of nine bins"] == pytest.approx(1 / 2)
    assert figures["accuracy of nine bins, one off counts"] == 1
    assert figures["accuracy of fourteen bins"] == pytest.approx(1 / 2)
    assert found.outcomes[0].unpack().tolist() == [4, 6]


def test_a_year_is_exact_where_the_answer_rounds_to_it():
    head = HeadOutput(
        tuple(map(str, range(117))), torch.full((4, 117), 1 / 117), torch.tensor([24.5, 25.49, 25.5, 24.4])
    )
    faces = UtkFace(**{name: getattr(people(age=np.full(4, 25.0)), name) for name in UtkFace.__dataclass_fields__})
    members = (faces, {"some": np.array([True, False, True, False])})
    found = scores.age_findings("made", head, np.full(4, 25, np.float32), members)
    figures = {(row.measure, row.group): row.figure.value for row in found.rows}
    assert figures["exact year", "all"] == pytest.approx(2 / 4)
    assert figures["exact year", "some"] == pytest.approx(1 / 2)
    assert figures["cross-entropy", "all"] == figures["cross-entropy", "some"] == pytest.approx(np.log(117))
    assert figures["accuracy of nine bins", "some"] == 0
    assert figures["accuracy of fourteen bins, one off counts", "some"] == 0


def test_ages_in_ranges_have_no_exact_year():
    head = HeadOutput(tuple(map(str, range(117))), torch.eye(117)[[25]], torch.tensor([25.0]))
    found = scores.age_findings("made", head, np.array([25], np.float32), (people(age=np.array([25.0])), {}))
    assert not {"exact year", "cross-entropy"} & {row.measure for row in found.rows}


def test_a_class_costs_the_logarithm_of_its_probability():
    head = HeadOutput(data.GENDERS, torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]))
    faces = people(age=np.zeros(3))
    members = (faces, {"last": np.array([False, False, True])})
    rows = scores.class_findings("made", "gender", head, np.array([0, 1, 1]), members).rows
    figures = {row.group: row.figure.value for row in rows if row.measure == "cross-entropy"}
    assert figures["last"] == pytest.approx(-np.log(1e-7))
    assert figures["all"] == pytest.approx((np.log(2) + np.log(4) - np.log(1e-7)) / 3)


def test_faces_without_an_age_are_left_out_of_ages_only():
    head = HeadOutput(tuple(map(str, range(117))), torch.eye(117)[[25, 25]], torch.tensor([25.0, 25.0]))
    faces = people(age=np.array([np.nan, 31], dtype=np.float32), gender=np.array([1, UNKNOWN]))
    gender = HeadOutput(data.GENDERS, torch.eye(2))
    found = scores.people_findings({"age": head, "gender": gender}, faces)
    counts = {row.task: row.figure.count for row in found.rows if row.group == "all"}
    assert counts == {"age": 1, "gender": 1}


def test_confusions_have_truth_in_rows():
    found = confusion("made", "t", ("a", "b"), np.array([0, 1, 1]), np.array([0, 0, 1]))
    assert found.counts == ((1, 1), (0, 1))


def test_curves_of_four_faces():
    confidence = np.array([0.99, 0.98, 0.5, 0.5], dtype=np.float32)
    correct = np.array([True, True, False, True])
    calibration = calibration_curve("made", "t", confidence, correct)
    assert calibration.y == pytest.approx((0.5, 1.0))
    assert calibration.counts == (2, 2)
    abstention = abstention_curve("made", "t", confidence, (~correct).astype(np.float32))
    assert abstention.y[9] == 0
    assert abstention.y[-1] == pytest.approx(1 / 4)


def test_means_have_the_interval_of_their_bootstrap():
    found = measure_mean(np.arange(4000) % 4 == 0)
    assert found.value == pytest.approx(0.25)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * (0.25 * 0.75 / 4000) ** 0.5, rel=0.15)
    assert np.isnan(measure_mean(np.zeros(0)).value)


def test_true_positives_at_a_share_of_false_ones():
    similarity = np.array([0.9, 0.5, 0.3, 0.6, 0.4, 0.2], dtype=np.float32)
    same = np.array([True, True, True, False, False, False])
    assert true_positives_at(similarity, same, 0.0) == pytest.approx(1 / 3)
    assert true_positives_at(similarity, same, 0.34) == pytest.approx(2 / 3)


def test_outcomes_survive_packing():
    values = np.array([0.5, 0, 2.25], dtype=np.float32)
    found = Outcomes.of(
        ("made", "t", "m"), values, ["a", "b", "c"], {"g": np.array([True, False, True])}, higher_is_better=False
    )
    assert found.unpack().tolist() == [0.5, 0, 2.25]
    assert found.members("g").tolist() == [True, False, True]
    assert found.members("all").tolist() == [True] * 3


def test_a_labels_threshold_lets_few_others_through():
    random = np.random.default_rng(0)
    truth = np.arange(2000) % 2
    first = np.clip(random.normal(0.7 - 0.4 * truth, 0.2), 0, 1).astype(np.float32)
    probabilities = np.stack([first, 1 - first], axis=1)
    limits = operating.thresholds(probabilities, truth, 0.05)
    for label in (0, 1):
        assert np.mean(probabilities[truth != label, label] > limits[label]) == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize(("most_false", "threshold"), [(0.0, 0.9), (0.25, 0.7), (0.49, 0.7), (0.5, 0.5)])
def test_a_threshold_is_the_probability_above_which_the_share_of_others_is_allowed(most_false, threshold):
    own = np.array([0.95, 0.3, 0.5, 0.7, 0.9], np.float32)  # the first face has the label, four others do not
    limits = operating.thresholds(np.stack([own, 1 - own], axis=1), np.array([0, 1, 1, 1, 1]), most_false)
    assert limits.dtype == np.float32
    assert limits == pytest.approx([threshold, 1 - 0.95], abs=1e-6)


def test_a_label_that_all_faces_have_gets_a_half():
    assert operating.thresholds(np.ones((3, 1), np.float32), np.zeros(3, np.int64), 0.1).tolist() == [0.5]


def test_operating_points_count_faces_with_several_labels():
    probabilities = torch.tensor([[0.9, 0.8], [0.6, 0.7], [0.1, 0.9], [0.2, 0.1]])
    faces = people(age=np.zeros(4), ethnicity=np.array([0, 0, 1, 1]))
    rows = operating.operating_point(HeadOutput(("x", "y"), probabilities), faces, (0.6, 0.6)).rows
    figures = {(row.measure, row.group): row.figure.value for row in rows}
    assert figures["true positives", "all"] == pytest.approx(2 / 4)
    assert figures["false positives", "all"] == pytest.approx(2 / 4)
    assert figures["left without a label", "all"] == pytest.approx(1 / 4)
    assert figures["given several labels", "all"] == pytest.approx(1 / 4)
    assert figures["true positives", "x"] == figures["true positives", "y"] == pytest.approx(1 / 2)
    assert figures["false positives", "x"] == 0
    assert figures["false positives", "y"] == 1


def test_operating_points_count_faces_without_a_label():
    probabilities = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.2, 0.8]])
    faces = people(age=np.zeros(4), ethnicity=np.array([0, 0, 1, UNKNOWN]))
    head = HeadOutput(("x", "y"), probabilities)
    assert operating.operating_point(head, faces, ()).rows == ()
    rows = operating.operating_point(head, faces, (0.6, 0.6)).rows
    figures = {(row.measure, row.group): row.figure for row in rows}
    assert figures["left without a label", "all"].value == pytest.approx(1 / 3)
    assert figures["true positives", "x"].value == pytest.approx(1 / 2)
    assert figures["false positives", "x"].count == 1


def test_all_labels_together_are_judged_by_the_threshold_of_other_folds():
    random = np.random.default_rng(0)
    truth = np.arange(3000) % 3
    scored = np.clip(random.normal(0.3, 0.1, (3000, 3)), 0, 1)
    scored[np.arange(3000), truth] += 0.3
    head = HeadOutput(("x", "y", "z"), torch.from_numpy(scored.astype(np.float32)))
    rows = operating.shared_operating_point(head, people(age=np.zeros(3000), ethnicity=truth)).rows
    figures = {row.measure: row.figure for row in rows}
    assert figures["false positives"].value == pytest.approx(0.01, abs=0.002)
    threshold = np.quantile(scored[np.arange(3) != truth[:, None]], 0.99)
    assert figures["true positives"].value == pytest.approx(
        np.mean(scored[np.arange(3000), truth] > threshold), abs=0.01
    )
    assert figures["left without a label"].value == pytest.approx(np.mean(~(scored > threshold).any(axis=1)), abs=0.01)
    assert {row.task for row in rows} == {operating.SHARED_TASK}
    assert figures["true positives"].low < figures["true positives"].value < figures["true positives"].high


def test_a_fold_does_not_choose_its_own_threshold():
    scored = np.full((20, 2), 0.2, np.float32)
    scored[:, 0] = 0.9
    scored[3, 1] = 0.95  # false; as a threshold of its own fold it would not be given
    head = HeadOutput(("x", "y"), torch.from_numpy(scored))
    rows = operating.shared_operating_point(head, people(age=np.zeros(20), ethnicity=np.zeros(20, np.int64))).rows
    figures = {row.measure: row.figure.value for row in rows}
    assert figures["false positives"] == pytest.approx(1 / 20)
    assert figures["true positives"] == pytest.approx(2 / 20)  # those of its fold; 0.95 is the threshold of all others


def test_few_faces_have_no_threshold_of_other_folds():
    head = HeadOutput(("x", "y"), torch.eye(2)[[0] * 9])
    assert operating.shared_operating_point(head, people(age=np.zeros(9))).rows == ()


def test_sides_of_missed_faces_shrink_with_their_image():
    found = np.full((len(sizes.SCALES), 2), np.nan, dtype=np.float32)
    found[:2, 0] = (100, 61)
    expected = sizes.expected_sides(found)
    assert expected[:, 0] == pytest.approx([100, 61, 36, 22, 13])
    assert np.isnan(expected[:, 1]).all()
    assert sizes.bin_name((24, 32)) == "24-31 px"
    assert sizes.bin_name(sizes.SIZE_BINS[-1]) == "64 px or more"
