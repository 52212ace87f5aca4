"""Embeddings in 16 bits a number, as they are stored: cosines and groups stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worker.identity.grouping.assign import AppearanceEmbeddings, IdentifyOptions, regroup

TOLERANCE = 1e-3  # of a cosine, as docs/identity.md states it


def in_halves(embeddings):
    return embeddings.astype(np.float16).astype(np.float32)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_worst_rounding_changes_no_cosine_by_a_thousandth():
    """All numbers lie half a step from the next ones that 16 bits hold, and are rounded the same way."""
    worst = np.float32(2.0**-4 * (1 + 2.0**-11 + 2.0**-20))
    signs = np.where(np.random.default_rng(3).random((2, 128)) < 0.5, -1.0, 1.0).astype(np.float32)
    rounded = signs * worst
    change = np.abs(in_halves(rounded) @ in_halves(rounded).T - rounded @ rounded.T) / (rounded @ rounded.T)[0, 0]
    assert 0.9 * TOLERANCE < change.max() < TOLERANCE
    random = unit(np.random.default_rng(4).standard_normal((500, 128)))
    assert np.abs(in_halves(random) @ in_halves(random).T - random @ random.T).max() < 0.3 * TOLERANCE


def test_groups_of_stored_embeddings_are_those_of_the_computed_ones():
    random = np.random.default_rng(5)
    people, each = 60, 8
    centres = unit(random.standard_normal((people, 128)))
    spread = random.uniform(0.5, 1.6, (people * each, 1)) * unit(random.standard_normal((people * each, 128)))
    embeddings = unit(np.repeat(centres, each, axis=0) + spread)
    within = np.einsum("nd,nd->n", embeddings, np.repeat(centres, each, axis=0))
    threshold = IdentifyOptions().threshold
    assert ((within > threshold - 0.02) & (within < threshold + 0.02)).sum() > 3, "some lie near the threshold"
    count = len(embeddings)
    computed = AppearanceEmbeddings(
        embeddings=embeddings,
        quality=np.full(count, 0.8, np.float32),
        media=np.arange(count),
        start_seconds=np.zeros(count),
        end_seconds=np.zeros(count),
    )
    groups = regroup(computed)
    assert people <= groups.max() + 1 < count
    assert np.array_equal(groups, regroup(replace(computed, embeddings=in_halves(embeddings))))
