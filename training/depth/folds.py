"""The targets of a searched task on the faces of its data set, and the folds of its cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.data.face_sets import CelebA
from training.depth.grid import SEARCHED, SearchOptions
from training.depth.probes import assign_folds, roles
from training.fit.losses import expected_age
from training.fit.targets import labelled, targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from models.branches import Kind
    from training.data.face_sets import FaceSet


@dataclass(frozen=True, slots=True)
class Folds:
    """One task's targets and folds on the faces of its data set."""

    task: str
    rows: NDArray[np.int64]
    """(M,) faces that have a label."""
    soft: Tensor
    """(N, K) float32 of all N faces of the set, as branches learn them."""
    targets: Tensor
    """(M, K) float32, as probes learn them: of the age one column, the years."""
    roles: NDArray[np.int8]
    """(F, M), see ``training.depth.probes.roles``."""
    options: SearchOptions

    @classmethod
    def of(cls, task: str, faces: FaceSet, options: SearchOptions) -> Folds:
        """Divide the labelled faces of a set; images of one person share a fold where people are known."""
        soft = targets(task, faces, len(SEARCHED[task].spec.labels))
        rows = labelled(task, soft, np.arange(len(faces)))
        people = faces.identity[rows] if isinstance(faces, CelebA) else None
        fold = assign_folds(len(rows), options.folds, options.seed, people)
        wanted = expected_age(soft[rows])[:, None] if task == "age" else soft[rows]
        return cls(task, rows, soft, wanted, roles(fold, options.folds, options.seed), options)

    @property
    def judge(self) -> Callable[[Tensor, Tensor], float]:
        """The score of predictions against targets; higher is better."""
        return SCORES[SEARCHED[self.task].spec.kind]

    def score(self, predicted: Tensor, rows: NDArray[np.int64]) -> float:
        """Score (R, K) predictions, of the age (R, 1) years, for some of the labelled faces."""
        places = torch.from_numpy(np.searchsorted(self.rows, rows))
        return self.judge(predicted, self.targets[places])


def _share_right(predicted: Tensor, wanted: Tensor) -> float:
    return float((predicted.argmax(dim=1) == wanted.argmax(dim=1)).float().mean())


def _share_of_columns_right(predicted: Tensor, wanted: Tensor) -> float:
    return float(((predicted > 0.5) == (wanted > 0.5)).float().mean())


def _minus_error(predicted: Tensor, wanted: Tensor) -> float:
    return -float((predicted - wanted).abs().mean())


# Scores of predictions against targets; higher is better.
SCORES: dict[Kind, Callable[[Tensor, Tensor], float]] = {
    "softmax": _share_right,
    "multilabel": _share_of_columns_right,
    "age": _minus_error,
}
