"""The probability that two faces, appearances or people are the same person, given their similarity.

The log of the likelihood ratio (one person against two) is linear in the cosine of the embeddings, in the lower of the
two qualities and in their product, less where one side is the mean of embeddings that disagree. Bayes' rule does the
rest, with a prior that the caller states. `benchmarks/likeness_lfw.py` fits and checks the constants.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from worker.columns import ArrayColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MAX_PRIOR = 0.01  # of small archives: a person who is searched among twenty is most likely none of them


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparisons(ArrayColumns):
    """N pairs of two sides that may be one person."""

    cosine: NDArray[np.float64]
    """(N,) of the two embeddings."""
    quality: NDArray[np.float64]
    """(N,) the lower of the two qualities, in 0..1."""
    agreement: NDArray[np.float64]
    """(N,) product over both sides of the length of the quality-weighted mean of their unit embeddings: 1 for single
    embeddings, less where the images of a side differ."""

    def __post_init__(self) -> None:
        self._check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Weights in nats of the evidence for one person: their sum is the log of the likelihood ratio."""

    constant: float
    cosine: float
    quality: float
    cosine_quality: float
    disagreement: float
    """Weight of one minus the agreement."""
    lowest_quality: float
    """Lower qualities count as this one: the fit saw too few of them."""
    highest_quality: float
    """Higher qualities count as this one."""
    trunk_sha256: str
    """Hash of the weights of the trunk that it was fitted to; it is invalid for others."""

    @property
    def weights(self) -> Floats:
        """(5,) in the order of the columns of `features`."""
        return np.array([getattr(self, field.name) for field in fields(self)[:5]])


# Fitted on LFW's train people with the published SFace, checked on the held-out people with the one of the default
# release, November 2026; tables in docs/measured/search.md.
SFACE = Calibration(
    constant=-20.71,
    cosine=59.17,
    quality=10.68,
    cosine_quality=-25.77,
    disagreement=-2.40,
    lowest_quality=0.25,
    highest_quality=0.85,
    trunk_sha256="ab2b61e4a3521fbf81f43938d9b47f5039e03fbda0cc52d5c563cd65a224b7ca",
)


def features(pairs: Comparisons, lowest_quality: float, highest_quality: float) -> Floats:
    """Return the (N, 5) terms of the log-ratio: one, cosine, quality, their product, disagreement."""
    quality = np.clip(pairs.quality, lowest_quality, highest_quality)
    cosine = pairs.cosine
    return np.stack(
        [np.ones_like(cosine), cosine, quality, cosine * quality, 1.0 - np.minimum(pairs.agreement, 1.0)], axis=1
    )


def probability(pairs: Comparisons, prior: float, calibration: Calibration = SFACE) -> Floats:
    """Return the (N,) probability that each pair is one person.

    Args:
        pairs: N pairs.
        prior: probability that a pair is one person before its faces are compared, between 0 and 1.
        calibration: of the trunk that made the embeddings.

    Raises:
        ValueError: the prior is not between 0 and 1.
    """
    if not 0.0 < prior < 1.0:
        raise ValueError(f"got a prior of {prior}, expected more than 0 and less than 1")
    ratio = features(pairs, calibration.lowest_quality, calibration.highest_quality) @ calibration.weights
    result: Floats = 1.0 / (1.0 + np.exp(-np.clip(ratio + np.log(prior / (1.0 - prior)), -500.0, 500.0)))
    return result


def prior_of(people: int) -> float:
    """Return the prior of a search among some people: each of them, and a person unknown, is equally likely."""
    return min(MAX_PRIOR, 1.0 / (people + 1))
