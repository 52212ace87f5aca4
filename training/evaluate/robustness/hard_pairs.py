"""Verification where it is hard: people who look alike to our own heads, one face degraded, or years apart.

View 2 of LFW compares mostly people of different gender, age and ethnicity, and most models are right on nearly all of
it. Here people are compared with those for whom the release has the same answers: the pairs that join two people in a
large archive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from training.data.degradations import COPIES, degraded_copy
from training.evaluate.findings import Findings
from training.evaluate.robustness.pair_rates import PairedImages, closest_impostors, genuine_pairs, rate_findings
from training.evaluate.scores import AGE_BANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from models.types import FaceOutputs, HeadOutput
    from training.data.expressions import ExpressiveFaces

HARD_TASK = "hard pairs"
DEGRADED_TASK = "hard pairs, one degraded"
APART_TASK = "hard pairs, ten years apart"
YEARS_APART = 10.0  # between the ages that the release answers for two images of one person


def hard_pair_findings(
    outputs: FaceOutputs,
    infer: Callable[[NDArray[np.uint8]], FaceOutputs],
    crops: NDArray[np.uint8],
    faces: ExpressiveFaces,
) -> Findings:
    """Measure true positives at few false ones, overall and by group; empty where there are too few pairs.

    Args:
        outputs: for N faces.
        infer: gives the outputs for (N, 3, S, S) crops.
        crops: (N, 3, S, S) of the faces.
        faces: the N faces with their people.
    """
    groups = alike_groups(outputs.heads, faces.person)
    _, person = np.unique(faces.person, return_inverse=True)
    images = PairedImages.of_people(faces.person, _block(groups, len(np.unique(person)))[person])
    left = outputs.embeddings.numpy()
    right = infer(one_degradation_each(crops)).embeddings.numpy()
    same, others = genuine_pairs(left, left, images), closest_impostors(left, left, images)
    if len(others) == 0:
        return Findings()
    parts = [rate_findings((faces.name, HARD_TASK), same, others, images, groups)]
    mixed = genuine_pairs(left, right, images), closest_impostors(left, right, images)
    parts.append(rate_findings((faces.name, DEGRADED_TASK), *mixed, images, groups))
    if "age" in outputs.heads:
        years = np.asarray(outputs.heads["age"].value, dtype=np.float32)
        apart = np.abs(years[same.first] - years[same.second]) >= YEARS_APART
        parts.append(rate_findings((faces.name, APART_TASK), same[apart], others, images, {}))
    return Findings.join(parts)


def alike_groups(heads: Mapping[str, HeadOutput], people: NDArray[np.str_]) -> dict[str, NDArray[np.bool_]]:
    """Return the (U,) people of each gender, ethnicity and age band by a release's answers for all of their N images.

    A class is that of the highest mean probability, an age the median.
    """
    _, person, images = np.unique(people, return_inverse=True, return_counts=True)
    found: dict[str, NDArray[np.bool_]] = {}
    for task in ("gender", "ethnicity"):
        if task in heads:
            sums = np.zeros((len(images), len(heads[task].labels)))
            np.add.at(sums, person, heads[task].probabilities.numpy())
            answer = sums.argmax(axis=1)
            found |= {name: answer == number for number, name in enumerate(heads[task].labels)}
    if "age" in heads:
        years = np.asarray(heads["age"].value, dtype=np.float32)
        median = np.array([np.median(years[person == number]) for number in range(len(images))])
        found |= {name: (median >= first) & (median < end) for name, first, end in AGE_BANDS}
    return {name: members for name, members in found.items() if members.any()}


def _block(groups: Mapping[str, NDArray[np.bool_]], count: int) -> NDArray[np.int64]:
    """Return the (U,) numbers of the combinations of groups that people belong to."""
    if not groups:
        return np.zeros(count, dtype=np.int64)
    return np.unique(np.stack(list(groups.values())), axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)


def one_degradation_each(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Degrade N crops, each in one way, all ways in turn."""
    found = np.array(crops)
    for number, name in enumerate(COPIES):
        chosen = torch.from_numpy(found[number :: len(COPIES)])
        if len(chosen):
            found[number :: len(COPIES)] = degraded_copy(chosen, name).numpy()
    return found
