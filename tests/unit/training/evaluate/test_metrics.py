"""Figures on values small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.evaluate import metrics
from training.fit.calibration import abstention_threshold, fit_temperature
from training.fit.losses import LOSSES, age_distribution, expected_age, one_hot


def test_accuracies_of_an_uneven_pair_of_classes():
    truth = np.array([0, 0, 0, 1])
    predicted = np.array([0, 0, 1, 1])
    assert metrics.accuracy(predicted, truth) == pytest.approx(3 / 4)
    assert metrics.balanced_accuracy(predicted, truth) == pytest.approx((2 / 3 + 1) / 2)


def test_errors_in_years():
    predicted, truth = np.array([10.0, 20.0, 30.0]), np.array([13.0, 20.0, 26.0])
    assert metrics.mean_absolute_error(predicted, truth) == pytest.approx(7 / 3)
    assert metrics.root_mean_square_error(predicted, truth) == pytest.approx((25 / 3) ** 0.5)
    assert metrics.coverage(predicted - 3, predicted + 3, truth) == pytest.approx(2 / 3)


def test_column_accuracies_count_every_column_alike():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.3]], dtype=np.float32)
    truth = np.array([[1, 0], [0, 0], [0, 0]], dtype=np.float32)
    assert metrics.mean_column_accuracy(probabilities, truth) == pytest.approx(5 / 6)
    # The second column has one answer only, so only the first one counts.
    assert metrics.balanced_column_accuracy(probabilities, truth) == pytest.approx((1 + 1 / 2) / 2)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 1.0], dtype=np.float32)
    correct = np.array([True, True, False, False, True])
    assert metrics.calibration_error(confidence, correct) == pytest.approx(4 / 5 * 0.4, abs=1e-6)


def test_a_figure_repeats_and_its_interval_narrows_with_more_rows():
    few, many = np.arange(40) % 4 == 0, np.arange(4000) % 4 == 0
    first, second = metrics.measure(np.mean, few), metrics.measure(np.mean, few)
    assert first == second
    assert first.value == pytest.approx(0.25)
    assert first.low < 0.25 < first.high
    wide, narrow = first.high - first.low, (found := metrics.measure(np.mean, many)).high - found.low
    assert wide / narrow == pytest.approx(10, rel=0.3)


def test_a_figure_of_no_rows_is_nan():
    nothing = metrics.measure(np.mean, np.zeros(0))
    assert nothing.count == 0
    assert np.isnan(nothing.value)


def test_an_interval_holds_95_percent_of_the_resampled_means():
    values = np.arange(400) % 4 == 0
    random = np.random.default_rng(3)
    means = [values[random.integers(0, 400, 400)].mean() for _ in range(1000)]
    for figure in (metrics.measure(np.mean, values, seed=3), metrics.measure_mean(values, seed=3)):
        assert (figure.value, figure.count) == (0.25, 400)
        assert (figure.low, figure.high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.003)
    assert np.isnan(metrics.measure(np.mean, values, draws=0).low)


def test_resampling_in_parts_resamples_as_often(monkeypatch):
    values = np.arange(60) % 3 == 0
    whole = metrics.measure_mean(values, draws=50)
    assert [len(rows) for rows in metrics.resamples(60, 50)] == [50]
    monkeypatch.setattr(metrics, "_DRAWN_AT_ONCE", 60 * 7)
    assert metrics.measure_mean(values, draws=50) == whole
    assert [len(rows) for rows in metrics.resamples(60, 50)] == [7] * 7 + [1]
    assert [len(rows) for rows in metrics.resamples(500, 3)] == [1] * 3, "more rows than are drawn at once"
    assert metrics.measure_mean(np.zeros(0)).count == 0


def test_columns_are_resampled_together():
    first = np.arange(50)
    figure = metrics.measure(lambda a, b: float(np.abs(a - b).max()), first, first + 1, draws=20)
    assert (figure.value, figure.low, figure.high) == (1, 1, 1)


@pytest.mark.parametrize(
    ("allowed", "share"), [(0.0, 1 / 4), (0.24, 1 / 4), (0.25, 2 / 4), (0.5, 3 / 4), (0.75, 1), (1.0, 1)]
)
def test_true_positives_at_the_threshold_of_the_allowed_false_ones(allowed, share):
    similarity = np.array([0.95, 0.8, 0.6, 0.4, 0.9, 0.7, 0.5, 0.3], dtype=np.float32)
    same = np.arange(8) < 4
    assert metrics.true_positives_at(similarity, same, allowed) == pytest.approx(share)
    assert np.isnan(metrics.true_positives_at(similarity, same | True, allowed))
    assert np.isnan(metrics.true_positives_at(similarity, same & False, allowed))


def test_an_interval_holds_its_ends():
    assert metrics.coverage(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([1.0, 4.0])) == 1


def test_a_probability_of_a_half_is_no():
    half, none = np.array([[0.5], [0.6], [0.4]]), np.zeros((3, 1))
    assert metrics.mean_column_accuracy(half, none) == pytest.approx(2 / 3)
    assert metrics.balanced_column_accuracy(half, np.array([[0.0], [1.0], [0.0]])) == 1
    assert np.isnan(metrics.balanced_column_accuracy(half, none))


def test_calibration_has_fifteen_bins_and_full_confidence_is_in_the_last():
    confidence = np.array([0.94, 1.0, 0.9, 0.01], dtype=np.float32)  # bins 14, 14, 13 and 0
    correct = np.array([True, False, True, False])
    expected = (abs(0.94 - 1 + 1.0) + abs(0.9 - 1) + 0.01) / 4
    assert metrics.calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-6)
    assert metrics.calibration_error(confidence[:0], correct[:0]) == 0


def test_temperature_recovers_the_factor_of_the_logits():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(4000, 3, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits * 3, one_hot(labels, 3)) == pytest.approx(3, rel=0.1)


def test_temperature_of_independent_labels():
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(4000, 2, generator=generator) * 2
    yes = torch.bernoulli(logits.sigmoid(), generator=generator)
    assert fit_temperature(logits * 2, yes, multi_label=True) == pytest.approx(2, rel=0.1)


def test_abstention_gives_as_many_answers_as_the_wanted_accuracy_allows():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5], dtype=np.float32)
    correct = np.array([True, True, False, True, False])
    assert abstention_threshold(confidence, correct, 0.75) == pytest.approx(0.6)
    assert abstention_threshold(confidence, correct, 0.6) == 0.0
    assert abstention_threshold(confidence, ~correct, 0.99) is None


def test_an_accuracy_that_is_just_reached_is_enough():
    confidence = np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32)
    assert abstention_threshold(confidence, np.array([True, False, True, False]), 0.5) == 0.0
    assert abstention_threshold(confidence, np.array([True, False, False, False]), 0.5) == pytest.approx(0.8)
    assert abstention_threshold(confidence, np.array([True, True, True, True]), 1.0) == 0.0


def test_age_distributions_peak_at_their_age_and_have_it_as_mean():
    found = age_distribution(torch.tensor([40.0, 71.0]), 117, 2.5)
    assert found.shape == (2, 117)
    assert found.argmax(1).tolist() == [40, 71]
    assert torch.allclose(expected_age(found), torch.tensor([40.0, 71.0]), atol=1e-3)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_least_at_its_target(name):
    target = age_distribution(torch.tensor([3.0, 5.0]), 11, 1.0) if name != "binary" else torch.eye(2, 11)
    right = torch.logit(target.clamp(1e-4, 1 - 1e-4)) if name == "binary" else target.clamp(min=1e-6).log()
    weights = torch.ones(11)
    best = LOSSES[name](right, target, weights)
    assert best < LOSSES[name](right.flip(1), target, weights)
    assert torch.isfinite(best)


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes():
    loss = LOSSES["cross_entropy"](torch.zeros(2, 7), one_hot(torch.tensor([1, 4]), 7), torch.ones(7))
    assert float(loss) == pytest.approx(np.log(7))


def test_every_resample_counts_and_the_seed_is_zero_unless_told():
    values = np.arange(60) % 3 == 0
    assert [len(rows) for rows in metrics.resamples(60, 1)] == [1]
    assert sum(len(rows) for rows in metrics.resamples(60, 1000)) == 1000
    assert metrics.measure(np.mean, values) == metrics.measure(np.mean, values, seed=0)
    assert metrics.measure_mean(values) == metrics.measure_mean(values, seed=0)


def test_temperatures_reach_from_a_quarter_for_right_answers_to_eight_for_wrong_ones():
    labels = one_hot(torch.arange(20) % 2, 2)
    assert fit_temperature(labels, labels) == pytest.approx(0.25)
    assert fit_temperature(labels.flip(1), labels) == pytest.approx(8.0)
