"""Face verification by the protocol of LFW's View 2: ten folds, each judged by the threshold of the nine others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.evaluate.findings import Findings, Row
from training.evaluate.metrics import Figure, measure, measure_mean, true_positives_at
from training.evaluate.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training.data.face_sets import FaceSet, Pairs

# Share of pairs of different people that may be taken for one person: 3 of View 2's 3000.
FALSE_ACCEPTANCE = 0.001
VALIDATION_FOLD = 7  # fold 8, counted from 0; of its people and those of folds 9 and 10 no image is learnt


@dataclass(frozen=True, slots=True)
class Verification:
    """Results of the protocol for P pairs in F folds."""

    correct: NDArray[np.bool_]
    """(P,) whether each pair was judged right, with the threshold of its fold."""
    fold_accuracy: NDArray[np.float64]
    """(F,) accuracy of each fold."""
    thresholds: NDArray[np.float64]
    """(F,) cosine similarity from which on a pair of this fold counts as the same person."""


def similarities(embeddings: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
    """Return the cosine similarity of each pair: (N, D) L2-normalised embeddings to (P,)."""
    return np.asarray(np.einsum("pd,pd->p", embeddings[pairs.left], embeddings[pairs.right]), dtype=np.float32)


def best_threshold(similarity: NDArray[np.float32], same: NDArray[np.bool_]) -> float:
    """Choose the threshold that judges most pairs right."""
    order = np.argsort(similarity, kind="stable")
    ranked = same[order].astype(np.int64)
    # If the first k pairs are judged different and the others the same, so many are right:
    right = np.concatenate(([0], np.cumsum(1 - ranked))) + np.concatenate((np.cumsum(ranked[::-1])[::-1], [0]))
    edges = np.concatenate(([-1.0], (similarity[order][1:] + similarity[order][:-1]) / 2, [1.0]))
    return float(edges[int(np.argmax(right))])


def verify(embeddings: NDArray[np.float32], pairs: Pairs) -> Verification:
    """Judge the pairs of each fold with the threshold that suits the other folds best."""
    similarity = similarities(embeddings, pairs)
    folds = np.unique(pairs.fold)
    thresholds = np.array([best_threshold(similarity[pairs.fold != f], pairs.same[pairs.fold != f]) for f in folds])
    correct = (similarity > thresholds[np.searchsorted(folds, pairs.fold)]) == pairs.same
    accuracy = np.array([correct[pairs.fold == fold].mean() for fold in folds])
    return Verification(correct, accuracy, thresholds)


def held_back_accuracy(embeddings: NDArray[np.float32], pairs: Pairs) -> Figure:
    """Judge the pairs of folds 9 and 10 with the threshold that suits fold 8 best.

    For models that have learnt from the other people of LFW.
    """
    similarity = similarities(embeddings, pairs)
    validation = pairs.fold == VALIDATION_FOLD
    threshold = best_threshold(similarity[validation], pairs.same[validation])
    held = pairs.fold > VALIDATION_FOLD
    return measure_mean((similarity[held] > threshold) == pairs.same[held])


def validation_accuracy(embed: Callable[[NDArray[np.int64]], NDArray[np.float32]], pairs: Pairs) -> Figure:
    """Judge the pairs of fold 8 with the threshold that suits them best: to compare steps of one training.

    Args:
        embed: turns (M,) rows of the images into (M, D) L2-normalised embeddings.
        pairs: of all folds.
    """
    left, right, same = (column[pairs.fold == VALIDATION_FOLD] for column in (pairs.left, pairs.right, pairs.same))
    rows = np.unique(np.concatenate((left, right)))
    found = embed(rows)
    similarity = np.einsum("pd,pd->p", found[np.searchsorted(rows, left)], found[np.searchsorted(rows, right)])
    return measure_mean((similarity > best_threshold(similarity, same)) == same)


def verification_findings(
    embeddings: NDArray[np.float32], faces: FaceSet, pairs: Pairs, task: str = "verification"
) -> Findings:
    """Measure the accuracy over ten folds, and the true positives where hardly any other pair is accepted.

    The result is empty where all pairs are of one kind or of one fold: there is no threshold to choose.

    Args:
        embeddings: (N, D) L2-normalised.
        faces: N faces.
        pairs: of them.
        task: name of the figures.
    """
    if len(np.unique(pairs.fold)) < 2 or pairs.same.all() or not pairs.same.any():
        return Findings()
    found = verify(embeddings, pairs)
    spread = float(found.fold_accuracy.std(ddof=1) / np.sqrt(len(found.fold_accuracy)))
    similarity = similarities(embeddings, pairs)
    accepted = measure(lambda s, same: true_positives_at(s, same, FALSE_ACCEPTANCE), similarity, pairs.same)
    place = ("lfw", task, "accuracy")
    names = [f"{faces.files[a]} {faces.files[b]}" for a, b in zip(pairs.left, pairs.right, strict=True)]
    rows = (
        Row(*place, measure_mean(found.correct)),
        Row(
            "lfw",
            task,
            "standard error over folds",
            Figure.without_interval(spread, len(found.fold_accuracy)),
        ),
        Row("lfw", task, "true positives at 0.1 % false ones", accepted),
    )
    return Findings(rows=rows, outcomes=(Outcomes.of(place, found.correct, names, {}, higher_is_better=True),))
