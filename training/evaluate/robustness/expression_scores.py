"""Expressions of sets that have one annotator's label: film stills, and LFW's people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.evaluate.findings import Findings
from training.evaluate.robustness.pair_rates import PairedImages, closest_impostors, genuine_pairs, rate_findings
from training.evaluate.scores import class_findings, emotion_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.types import HeadOutput
    from training.data.expressions import ExpressiveFaces

EXPRESSION_HEADS = ("emotion", "emotion7")


def expression_findings(
    heads: Mapping[str, HeadOutput], faces: ExpressiveFaces, groups: dict[str, NDArray[np.bool_]] | None = None
) -> Findings:
    """Compare the most probable emotion of each head with the label; labels that a head does not have are left out.

    Args:
        heads: answers for N faces.
        faces: the N faces.
        groups: (N,) members by name; None for none.
    """
    parts = []
    for task in EXPRESSION_HEADS:
        if task in heads:
            truth = emotion_numbers(heads[task])[faces.expression]
            parts.append(class_findings(faces.name, task, heads[task], truth, (faces, groups or {})))
    return Findings.join(parts)


def person_groups(faces: ExpressiveFaces) -> dict[str, NDArray[np.bool_]]:
    """Return the (N,) faces of each person."""
    return {str(name): faces.person == name for name in np.unique(faces.person)}


def film_identity_findings(embeddings: NDArray[np.float32], faces: ExpressiveFaces) -> Findings:
    """Verify all pairs within and between the people of the film stills.

    They are a handful, so intervals resample images: they hold for other faces of these people, not for other people.
    """
    images = PairedImages.of_images(faces.person, faces.files)
    same, others = genuine_pairs(embeddings, embeddings, images), closest_impostors(embeddings, embeddings, images)
    if len(others) == 0:
        return Findings()
    return rate_findings((faces.name, "verification"), same, others, images, person_groups(faces))
