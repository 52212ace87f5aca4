"""Sums of people, added up piece by piece."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.identity.gallery import sum_up, unseen_people
from worker.identity.grouping.assign import GalleryPeople


def some(random, count, dimension=128):
    looks = random.standard_normal((count, dimension)).astype(np.float32)
    return random.integers(0, 5, count) + 10, looks, random.choice([0.1, 0.2, 0.6, 0.9], count).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_a_sum_of_sums_is_the_sum_of_all(seed, first, second):
    random = np.random.default_rng(seed)
    person, looks, quality = some(random, first + second)
    before = GalleryPeople.of(person[:first], looks[:first], quality[:first])
    before = GalleryPeople.cat([before, unseen_people(np.array([14]))]) if 14 not in before.person else before
    more = GalleryPeople.of(person[first:], looks[first:], quality[first:])
    everyone = GalleryPeople.of(person, looks, quality)
    expected = everyone[np.isin(everyone.person, more.person)]
    found = sum_up(before, more)
    assert found.person.tolist() == more.person.tolist() == expected.person.tolist()
    assert np.allclose(found.sums, expected.sums, atol=1e-4)
    assert np.allclose(found.weights, expected.weights, atol=1e-5)
    assert found.good.tolist() == expected.good.tolist()
