"""Archives of synthetic people, drawn from the embeddings of real ones, of any size.

A person's true embedding is a random mixture of all real people's: with normal weights it has their mean and
covariance, and with these the distribution of the cosine of two people, which decides how often strangers are taken for
each other. An image is the true embedding plus a difference: its direction is such a mixture of all real differences
of images from their person, its length and quality are those of one real image. Mixtures, because copies of single
real people or differences would be shared by hundreds of made ones, who would be alike as no strangers are. How many
images a person has is drawn from the counts of the real people, which have a long tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worker.identity.grouping.assign import AppearanceEmbeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_FOR_MEAN = 5  # images from which a person's mean counts as true
BLOCK = 50_000  # images made at a time


@dataclass(frozen=True, slots=True)
class Archive:
    """Appearances and who they are."""

    appearances: AppearanceEmbeddings
    person: NDArray[np.int64]
    """(N,) 0.. in random order of rows."""

    def __len__(self) -> int:
        return len(self.person)


@dataclass(frozen=True, slots=True)
class Source:
    """Statistics of the embeddings of real people."""

    means: NDArray[np.float32]
    """(P, D) normalised means of the people with enough images."""
    residuals: NDArray[np.float32]
    """(R, D) images of these people minus their person's mean, scaled as for a mean of very many images."""
    qualities: NDArray[np.float32]
    """(R,) of the same images."""
    counts: NDArray[np.int64]
    """Pictures of each real person."""

    @classmethod
    def of(cls, embeddings: NDArray[np.float32], qualities: NDArray[np.float32], person: NDArray[np.int64]) -> Source:
        """Separate (N, D) normalised embeddings into means and differences."""
        counts = np.bincount(person)
        sums = np.zeros((len(counts), embeddings.shape[1]), np.float32)
        np.add.at(sums, person, embeddings)
        lengths = np.linalg.norm(sums, axis=1)
        row_counts = counts[person]
        known = row_counts >= MIN_FOR_MEAN
        # The mean of n images holds 1/n of each image's own difference: undone by n / (n - 1) in variance.
        scale = np.sqrt(row_counts / np.maximum(row_counts - 1, 1)).astype(np.float32)
        residuals = (embeddings - sums[person] / row_counts[:, None]) * scale[:, None]
        enough = counts >= MIN_FOR_MEAN
        return cls(sums[enough] / lengths[enough, None], residuals[known], qualities[known], counts)

    def true_length(self) -> float:
        """Length of a person's true embedding, where images have length 1."""
        return float(np.sqrt(1 - np.mean(np.sum(self.residuals**2, axis=1))))

    def draw(self, count: int, seed: int = 0) -> Archive:
        """Make ``count`` images in random order, each in a file of its own."""
        rng = np.random.default_rng(seed)
        sizes = rng.choice(self.counts, count)  # more than enough people
        person = rng.permutation(np.repeat(np.arange(count), sizes)[:count])
        centres = self._centres(int(person.max()) + 1, rng) * np.float32(self.true_length())
        embeddings = np.empty((count, self.means.shape[1]), np.float32)
        quality = np.empty(count, np.float32)
        for start in range(0, count, BLOCK):
            rows = slice(start, start + BLOCK)
            noise, quality[rows] = self._noise(len(person[rows]), rng)
            embeddings[rows] = _unit(centres[person[rows]] + noise)
        alone, zeros = np.arange(count), np.zeros(count)
        return Archive(
            AppearanceEmbeddings(
                embeddings=embeddings, quality=quality, media=alone, start_seconds=zeros, end_seconds=zeros
            ),
            person,
        )

    def _centres(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return (count, D) normalised embeddings."""
        centre = self.means.mean(axis=0)
        mixtures = _mixtures(self.means - centre, count, rng)
        mixtures += centre
        return _unit(mixtures)

    def _noise(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(count, D) differences, and (count,) qualities of the images whose lengths they have."""
        row = rng.integers(0, len(self.residuals), count)
        lengths = np.linalg.norm(self.residuals, axis=1)[row]
        return _unit(_mixtures(self.residuals, count, rng)) * lengths[:, None], self.qualities[row]


def _mixtures(parts: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(count, D) sums of all (R, D) parts with normal weights, drawn by their covariance, which is all that matters."""
    values, axes = np.linalg.eigh(parts.T @ parts / len(parts))
    root = np.sqrt(np.maximum(values, 0))[:, None] * axes.T
    drawn: NDArray[np.float32] = rng.standard_normal((count, parts.shape[1]), np.float32) @ root
    return drawn


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
