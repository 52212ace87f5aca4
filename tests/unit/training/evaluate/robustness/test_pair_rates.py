"""Verification where few false pairs are allowed, on made embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.robustness.pair_rates import (
    RATES,
    PairedImages,
    closest_impostors,
    genuine_pairs,
    rate_findings,
    true_positives_name,
)

PEOPLE, IMAGES = 150, 3


def unit_vectors(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def made(noise, seed=0):
    """Return embeddings of 150 people with three images each in two blocks, and the images."""
    random = np.random.default_rng(seed)
    centres = np.repeat(random.normal(size=(PEOPLE, 24)), IMAGES, axis=0)
    people = np.repeat([f"P{n:03d}" for n in range(PEOPLE)], IMAGES)
    embeddings = unit_vectors(centres + noise * random.normal(size=centres.shape))
    return embeddings, PairedImages.of_people(people, np.repeat(np.arange(PEOPLE) % 2, IMAGES))


def naive(embeddings, images, rate):
    """Return the true positives at a rate, from all pairs at once."""
    similarity = embeddings @ embeddings.T
    same = images.person[:, None] == images.person
    apart = ~same & (images.block[:, None] == images.block)
    others = np.sort(similarity[apart])[::-1]
    threshold = others[int(rate * len(others))]
    of_each = [similarity[np.ix_(rows, rows)][~np.eye(IMAGES, dtype=bool)] > threshold
               for rows in np.arange(PEOPLE * IMAGES).reshape(PEOPLE, IMAGES)]  # fmt: skip
    return float(np.mean(of_each)), threshold


def test_rates_are_those_of_all_pairs_within_the_blocks():
    embeddings, images = made(0.7)
    same = genuine_pairs(embeddings, embeddings, images)
    others = closest_impostors(embeddings, embeddings, images)
    assert len(same) == PEOPLE * IMAGES * (IMAGES - 1)
    assert not np.any(images.person[others.first] == images.person[others.second])
    assert np.all(images.block[others.first] == images.block[others.second])
    assert np.all(np.diff(others.similarity) <= 0)
    halves = {"even": np.arange(PEOPLE) % 2 == 0, "odd": np.arange(PEOPLE) % 2 == 1}
    found = rate_findings(("made", "hard pairs"), same, others, images, halves)
    rows = {(row.measure, row.group): row.figure for row in found.rows}
    expected, threshold = naive(embeddings, images, RATES[0])
    figure = rows[true_positives_name(RATES[0]), "all"]
    assert figure.value == pytest.approx(expected)
    assert 0.05 < figure.value < 0.95
    assert figure.low < figure.value < figure.high
    assert figure.count == PEOPLE
    assert rows[true_positives_name(RATES[0]), "even"].count == PEOPLE // 2
    similarity = embeddings @ embeddings.T
    own = np.outer(images.block == 0, images.block == 0) & (images.person[:, None] != images.person)
    false = rows["false positives at the threshold of 0.1 %", "even"]
    assert false.value == pytest.approx(float((similarity[own] > threshold).mean()))
    assert (true_positives_name(RATES[2]), "all") not in rows  # 0.3 pairs are too few for a threshold


def test_outcomes_average_to_the_figure_so_that_two_releases_can_be_compared():
    embeddings, images = made(0.7)
    same = genuine_pairs(embeddings, embeddings, images)
    others = closest_impostors(embeddings, embeddings, images)
    found = rate_findings(("made", "hard pairs"), same, others, images, {})
    assert found.outcomes[0].unpack().mean() == pytest.approx(found.rows[0].figure.value, abs=1e-6)


def test_people_count_alike_and_people_with_one_image_give_impostors_only():
    people = np.array(["A"] * 5 + ["B"] * 2 + [f"P{n}" for n in range(400)])
    embeddings = unit_vectors(np.random.default_rng(0).normal(size=(len(people), 64)))
    embeddings[1:5] = embeddings[0]
    images = PairedImages.of_people(people, np.zeros(len(people), dtype=np.int64))
    pairs = genuine_pairs(embeddings, embeddings, images), closest_impostors(embeddings, embeddings, images)
    figure = rate_findings(("made", "x"), *pairs, images, {}).rows[0].figure
    assert (figure.value, figure.count) == (pytest.approx(0.5), 2)  # all of A's twenty pairs, none of B's two


def test_resampling_people_is_wider_than_resampling_images():
    random = np.random.default_rng(0)
    people = np.repeat([f"P{n}" for n in range(8)], 40)
    noise = np.repeat(np.linspace(0.2, 2.0, 8), 40)[:, None]
    centres = np.repeat(random.normal(size=(8, 32)), 40, axis=0)
    embeddings = unit_vectors(centres + noise * random.normal(size=centres.shape))
    widths = []
    for images in (
        PairedImages.of_people(people, np.zeros(len(people), dtype=np.int64)),
        PairedImages.of_images(people, np.array([f"{n}.jpg" for n in range(len(people))])),
    ):
        pairs = genuine_pairs(embeddings, embeddings, images), closest_impostors(embeddings, embeddings, images)
        figure = rate_findings(("made", "x"), *pairs, images, {}).rows[0].figure
        widths.append(figure.high - figure.low)
    assert widths[0] > 2 * widths[1]
