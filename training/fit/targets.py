"""Soft targets of each task, the rows that have one, and the score by which training stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from models.readings import interpret
from training.data.emotion_folders import read_ckplus, read_emotiw, read_rafdb, read_sfew
from training.data.face_sets import (
    EMOTIONS,
    ORIGINAL_EMOTIONS,
    UNKNOWN,
    BinnedPeople,
    CelebA,
    Fer2013,
    People,
)
from training.data.lfwa import read_lfwa
from training.data.published_sets import AGE_RANGES, read_adience, read_fairface, read_imdb, read_wiki
from training.data.sets import load_celeba, load_fer2013, load_utkface
from training.errors import RecipeError
from training.fit.balance import GROUP_AGES, UNBALANCED
from training.fit.losses import age_span_distribution, one_hot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from models.branches import BranchSpec
    from training.data.face_sets import DataName, FaceSet
    from training.fit.balance import Balance, GroupName

# Of the Gaussian around each label: people's guesses of an age scatter by more, labels of one year by less.
AGE_SPREAD_YEARS = 2.5
# FER+ votes from which on an emotion counts: single votes are taken for errors, as in Barsoum et al. 2016.
MIN_VOTES = 2.0
MAX_OTHER_VOTES = 5.0  # of ten FER+ votes for 'unknown' or 'not a face'; images with more have no target

READERS: dict[DataName, Callable[[Path], FaceSet]] = {
    "utkface": load_utkface,
    "fer2013": load_fer2013,
    "celeba10k": load_celeba,
    "fairface": read_fairface,
    "adience": read_adience,
    "imdb_crop": read_imdb,
    "wiki_crop": read_wiki,
    "sfew": read_sfew,
    "emotiw": read_emotiw,
    "rafdb": read_rafdb,
    "ckplus": read_ckplus,
    "lfwa": read_lfwa,
}


def emotion_targets(faces: Fer2013) -> Tensor:
    """Turn votes into distributions over the eight emotions: (N, 8); rows without a usable vote are zero."""
    votes = np.where(faces.votes >= MIN_VOTES, faces.votes, 0.0)
    votes[faces.other_votes > MAX_OTHER_VOTES] = 0.0
    return torch.from_numpy(votes / np.maximum(votes.sum(axis=1, keepdims=True), 1.0)).float()


def original_emotion_targets(faces: Fer2013) -> Tensor:
    """Turn FER2013's own labels into (N, 7) one-hot targets, in the order of ORIGINAL_EMOTIONS."""
    order = torch.tensor([EMOTIONS.index(name) for name in ORIGINAL_EMOTIONS])
    return (torch.from_numpy(faces.original)[:, None] == order).float()


def known_one_hot(labels: NDArray[np.int64], classes: int) -> Tensor:
    """Turn (N,) class numbers into (N, classes) targets; rows of UNKNOWN are zero."""
    numbers = torch.from_numpy(labels)
    return one_hot(numbers.clamp(min=0), classes) * (numbers != UNKNOWN)[:, None]


def age_targets(faces: People, classes: int, spread_years: float = AGE_SPREAD_YEARS) -> Tensor:
    """Turn ages or ranges of ages into (N, classes) distributions over years; rows without an age are zero."""
    span = faces.age_span if isinstance(faces, BinnedPeople) else np.stack([faces.age] * 2, axis=1)
    known = torch.from_numpy(np.isfinite(span).all(axis=1))
    first, last = torch.from_numpy(np.nan_to_num(span)).unbind(1)
    return age_span_distribution(first, last, classes, spread_years) * known[:, None]


def age_range_targets(faces: BinnedPeople) -> Tensor:
    """Turn FairFace's ranges of ages into (N, 9) one-hot targets; rows without one of its ranges are zero."""
    numbers = [AGE_RANGES.get((float(first), float(last)), UNKNOWN) for first, last in faces.age_span]
    return known_one_hot(np.array(numbers, dtype=np.int64), len(AGE_RANGES))


def targets(task: str, faces: FaceSet, classes: int, spread_years: float = AGE_SPREAD_YEARS) -> Tensor:
    """Return the (N, classes) float32 soft targets of a task.

    Args:
        task: of the branch.
        faces: with labels.
        classes: number of the branch's labels.
        spread_years: of the Gaussian around each age; 0 for one-hot targets.

    Raises:
        RecipeError: the data set does not label this task.
    """
    if isinstance(faces, People) and task in ("gender", "ethnicity"):
        return known_one_hot(getattr(faces, task), classes)
    if isinstance(faces, BinnedPeople) and task in ("ethnicity7", "age_range"):
        return known_one_hot(faces.race, classes) if task == "ethnicity7" else age_range_targets(faces)
    if isinstance(faces, People) and task == "age":
        return age_targets(faces, classes, spread_years)
    if isinstance(faces, Fer2013) and task == "emotion":
        return emotion_targets(faces)
    if isinstance(faces, Fer2013) and task == "emotion7":
        return original_emotion_targets(faces)
    if isinstance(faces, CelebA) and task == "attributes":
        return torch.from_numpy(faces.attributes)
    raise RecipeError(f"{faces.name} has no labels for {task!r}")


def group_numbers(faces: FaceSet, within: Sequence[GroupName]) -> Tensor:
    """Return the (N,) number of each face's group of equal other labels, from 0; a missing label is a group, too.

    Raises:
        RecipeError: the data set lacks these labels.
    """
    if not isinstance(faces, People):
        raise RecipeError(f"{faces.name} has no labels {', '.join(within)} within which classes could be balanced")
    numbers = np.zeros(len(faces), np.int64)
    for name in within:
        found = _age_bands(faces.age) if name == "age" else getattr(faces, name)
        numbers = numbers * (len(GROUP_AGES) + 2) + found - UNKNOWN  # from 0
    return torch.from_numpy(np.unique(numbers, return_inverse=True)[1].astype(np.int64))


def _age_bands(ages: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the number of the band of GROUP_AGES of each age: (N,), UNKNOWN where there is none."""
    return np.where(np.isfinite(ages), np.digitize(np.nan_to_num(ages), GROUP_AGES), UNKNOWN)


def labelled(task: str, soft: Tensor, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out the rows without a label; a face without any attribute has a label all the same."""
    if task == "attributes":
        return rows
    return rows[soft[rows].sum(dim=1).numpy() > 0]


def score(spec: BranchSpec, balance: Balance = UNBALANCED) -> Callable[[Tensor, Tensor], float]:
    """Return the function that scores (M, K) logits against (M, K) targets while training; higher is better.

    Labels whose two answers weigh alike while training are scored by balanced accuracy.
    """
    if spec.kind == "age":
        return lambda logits, soft: -_absolute_error(spec, logits, soft)
    if spec.kind == "multilabel" and balance.both_answers:
        return mean_balanced_accuracy
    if spec.kind == "multilabel":
        return lambda logits, soft: float(((logits > 0) == (soft > 0.5)).float().mean())
    return lambda logits, soft: float((logits.argmax(dim=1) == soft.argmax(dim=1)).float().mean())


def mean_balanced_accuracy(logits: Tensor, soft: Tensor) -> float:
    """Return the mean, over the labels with both answers among (M, K) targets, of the mean accuracy of the two."""
    correct, yes = (logits > 0) == (soft > 0.5), soft > 0.5
    both = yes.any(dim=0) & ~yes.all(dim=0)
    having = (correct & yes).sum(dim=0) / yes.sum(dim=0).clamp(min=1)
    without = (correct & ~yes).sum(dim=0) / (~yes).sum(dim=0).clamp(min=1)
    return float(((having + without) / 2)[both].mean()) if both.any() else 0.0


def _absolute_error(spec: BranchSpec, logits: Tensor, soft: Tensor) -> float:
    predicted = interpret(spec, logits).value
    years = soft @ torch.tensor([float(label) for label in spec.labels])
    return float((torch.as_tensor(predicted) - years).abs().mean())
