"""Figures of agreement, against published values, plain formulas and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from worker.pictures.labels.figures import Answers, accuracy, bias, icc, kappa, mean_error, with_interval


def answers(truth, other, weight=None, stratum=None):
    count = len(truth)
    return Answers(
        np.array(truth, np.float64),
        np.array(other, np.float64),
        np.ones(count) if weight is None else np.array(weight, np.float64),
        np.zeros(count, np.int64) if stratum is None else np.array(stratum, np.int64),
    )


def table(*counts):
    """Return answers with a number of faces for each pair of labels."""
    truth = [one for one, _, count in counts for _ in range(count)]
    other = [two for _, two, count in counts for _ in range(count)]
    return answers(truth, other)


def test_accuracy_has_the_interval_of_wilson():
    eight = accuracy(answers([0] * 10, [0] * 8 + [1] * 2))
    assert (eight.value, round(eight.low, 3), round(eight.high, 3)) == (0.8, 0.490, 0.943)
    perfect = accuracy(answers([0] * 20, [0] * 20))
    assert (perfect.value, round(perfect.low, 3), perfect.high) == (1, 0.839, 1)
    assert accuracy(answers([], [])) is None


def test_weights_count_strata_as_large_as_they_are():
    """A stratum of 900 with one error of 2, and one of 100 without an error."""
    given = answers([0, 0, 1, 1], [0, 1, 1, 1], [450, 450, 50, 50], [0, 0, 1, 1])
    assert accuracy(given).value == pytest.approx(0.55)
    same = answers([0, 0, 1, 1], [0, 1, 1, 1])
    assert accuracy(same).value == 0.75
    assert accuracy(given).high - accuracy(given).low > accuracy(same).high - accuracy(same).low


def test_kappa_of_the_example_of_cohen():
    """Two readers of fifty proposals: 20 yes-yes, 15 no-no, 5 and 10 apart; kappa is 0.4."""
    given = table((1, 1, 20), (1, 0, 5), (0, 1, 10), (0, 0, 15))
    assert kappa(given.truth, given.other, given.weight) == pytest.approx(0.4)
    found = with_interval(kappa, given)
    assert 0.1 < found.low < 0.4 < found.high < 0.66
    assert kappa(np.zeros(5), np.zeros(5), np.ones(5)) is None


def test_kappa_with_weights_is_that_of_repeated_faces():
    given = table((1, 1, 20), (1, 0, 5), (0, 1, 10), (0, 0, 15))
    short = answers([1, 1, 0, 0], [1, 0, 1, 0], [20, 5, 10, 15])
    assert kappa(short.truth, short.other, short.weight) == pytest.approx(kappa(given.truth, given.other, given.weight))


def test_icc_of_the_example_of_shrout_and_fleiss():
    """Judges 1 and 4 of their table 2, by analysis of variance as McGraw and Wong write it."""
    ratings = np.array([[9, 8], [6, 2], [8, 6], [7, 3], [10, 9], [6, 6]], np.float64)  # made of their six targets
    count, judges = ratings.shape
    grand = ratings.mean()
    rows = judges * ((ratings.mean(1) - grand) ** 2).sum() / (count - 1)
    columns = count * ((ratings.mean(0) - grand) ** 2).sum() / (judges - 1)
    residual = ratings - ratings.mean(1, keepdims=True) - ratings.mean(0) + grand
    error = (residual**2).sum() / ((count - 1) * (judges - 1))
    expected = (rows - error) / (rows + (judges - 1) * error + judges * (columns - error) / count)
    assert icc(ratings[:, 0], ratings[:, 1], np.ones(count)) == pytest.approx(expected)
    assert icc(ratings[:, 0], ratings[:, 0], np.ones(count)) == pytest.approx(1)
    assert icc(ratings[:2, 0], ratings[:2, 1], np.ones(2)) is None


def test_icc_falls_with_a_bias_while_order_stays():
    years = np.linspace(10, 70, 50)
    assert icc(years, years + 15, np.ones(50)) < 0.8
    assert bias(years, years + 15, np.ones(50)) == pytest.approx(15)
    assert bias(years, years - 4, np.ones(50)) == pytest.approx(-4)
    assert mean_error(years, years - 4, np.ones(50)) == pytest.approx(4)


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(7)
    held = 0
    for _ in range(60):
        years = random.uniform(10, 70, 80)
        found = with_interval(bias, answers(years, years + random.normal(2, 8, 80)))
        held += found.low <= 2 <= found.high
    assert 50 <= held <= 60


def test_the_bootstrap_stays_in_its_strata():
    """Between strata of unlike size there is no variance: each has all its faces alike."""
    given = answers([0] * 10, [0] * 5 + [1] * 5, [1] * 5 + [3] * 5, [0] * 5 + [1] * 5)
    found = with_interval(mean_error, given)
    assert (found.value, found.low, found.high) == (0.75, 0.75, 0.75)


def test_one_face_has_no_interval():
    assert with_interval(bias, answers([30], [34])).low is None
    assert with_interval(bias, answers([], [])) is None
