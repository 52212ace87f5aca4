"""The probability to be the same person rises with likeness, and honours its prior."""

from __future__ import annotations

import numpy as np
import pytest

from worker.identity.search.likeness import MAX_PRIOR, SFACE, Comparisons, features, prior_of, probability


def pairs(cosine, quality=0.7, agreement=1.0):
    cosine = np.atleast_1d(np.asarray(cosine, np.float64))
    same = np.ones_like(cosine)
    return Comparisons(cosine=cosine, quality=same * quality, agreement=same * agreement)


@pytest.mark.parametrize("quality", [0.0, 0.25, 0.5, 0.85, 1.0])
def test_a_higher_similarity_is_more_probable(quality):
    chances = probability(pairs(np.linspace(-1, 1, 41), quality), 0.01)
    assert (np.diff(chances) >= 0).all()
    assert chances[0] < 1e-6
    assert chances[-1] > 0.9999


def test_the_prior_is_bayes_rule():
    at = pairs(0.42)
    odds = [chance / (1 - chance) for chance in (probability(at, prior)[0] for prior in (0.5, 0.2))]
    assert odds[1] == pytest.approx(odds[0] * 0.25)


def test_strangers_are_improbable_and_the_same_person_probable():
    # LFW: 0.09 is the mean cosine of two people, 0.67 that of one.
    assert probability(pairs(0.09), 0.01)[0] < 1e-5
    assert probability(pairs(0.67), 0.001)[0] > 0.99


def test_a_mean_of_different_images_needs_more():
    single, mean = (probability(pairs(0.45, agreement=agreement), 0.001)[0] for agreement in (1.0, 0.85))
    assert mean < single


def test_qualities_outside_of_the_fitted_range_count_as_its_edge():
    low, edge = (probability(pairs(0.4, quality), 0.01)[0] for quality in (0.01, SFACE.lowest_quality))
    assert low == edge


def test_features_and_weights_have_one_order():
    assert features(pairs([0.1, 0.2, 0.3]), 0.0, 1.0).shape == (3, len(SFACE.weights))
    assert SFACE.weights[1] == SFACE.cosine


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, float("nan")])
def test_a_prior_that_is_none_is_refused(prior):
    with pytest.raises(ValueError, match="expected more than 0"):
        probability(pairs(0.4), prior)


def test_the_prior_of_an_archive_is_one_share_each():
    assert prior_of(9_999) == pytest.approx(1e-4)
    assert prior_of(3) == MAX_PRIOR
    assert prior_of(0) == MAX_PRIOR
