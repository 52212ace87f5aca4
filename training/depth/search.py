"""The search for the best depth of each attribute: every depth and pooling, cross-validated with small probes.

The trunk is frozen and runs once over each face; its maps at every depth, averaged over grids of 1 x 1, 2 x 2 and
3 x 3 cells, are kept on disk. Every cell of the grid is then a set of probes (``training.depth.probes``), fitted to all
folds but one and scored on that one. Only training and validation splits are read, never the test split.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.trunks.base import EMBEDDING_DEPTH
from training.data.face_sets import CelebA
from training.depth.grid import (
    SEARCHED,
    Cell,
    Grid,
    GridProgress,
    SearchOptions,
    Settings,
    depth_table,
    to_csv,
    to_json,
    winner_table,
)
from training.depth.probes import ProbeTarget, assign_folds, cross_validate, kernel, roles
from training.fit.features import Tap
from training.fit.losses import expected_age
from training.fit.targets import READERS, labelled, targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from models.branches import Kind
    from models.trunks.base import TrunkLayout
    from training.data.face_sets import FaceSet
    from training.train import TrainingContext

_log = logging.getLogger(__name__)

POOLS = (1, 2, 3)  # cells along each side that maps are averaged over


def search(context: TrainingContext, trunk: str, options: SearchOptions, out: Path) -> Grid:
    """Fill the grid, or go on with a search that was stopped.

    Args:
        context: trunk, detector, data and cache.
        trunk: name of the trunk, for the results.
        options: tasks, folds and probes.
        out: folder for the progress: a line for each finished cell.

    Raises:
        DataError: a data set is missing.
        RecipeError: the folder holds a search with other settings.
    """
    settings = Settings(trunk, context.trunk.layout.depths, options)
    progress = GridProgress(out / "cells.jsonl", settings)
    for data in dict.fromkeys(SEARCHED[task].data for task in options.tasks):
        every = READERS[data](context.data)
        rows = np.random.default_rng(options.seed).permutation(np.flatnonzero(every.split != "test"))
        faces = every[np.sort(rows[: options.faces])]
        tasks = [task for task in options.tasks if SEARCHED[task].data == data]
        _search_set(context, [_Folds.of(task, faces, options) for task in tasks], faces, progress)
    return Grid(settings, tuple(progress.cells))


def write_results(grid: Grid, out: Path) -> list[Path]:
    """Write tables, every cell and a plot into a folder; return the files."""
    texts = {
        "depths.md": f"{depth_table(grid)}\n\n{winner_table(grid)}\n",
        "depths.csv": to_csv(grid),
        "depths.json": to_json(grid),
    }
    for name, text in texts.items():
        (out / name).write_text(text)
    from training.depth.plot import depth_figure  # noqa: PLC0415 - matplotlib is an extra
    from training.evaluate.report.plots import save  # noqa: PLC0415 - matplotlib is an extra

    return [*(out / name for name in texts), save(depth_figure(grid), out / "depths.png")]


def _search_set(context: TrainingContext, tasks: list[_Folds], faces: FaceSet, progress: GridProgress) -> None:
    """Search the tasks of one data set."""
    layout, options = context.trunk.layout, progress.settings.options
    taps = tuple(taps_of(layout))
    if all(progress.has(folds.task, tap.depth, (tap.pool or 0)) for folds in tasks for tap in taps):
        return
    for tap, features in context.features(faces, taps, mirror=False).items():
        left = [folds for folds in tasks if not progress.has(folds.task, tap.depth, tap.pool or 0)]
        similar = kernel(features.plain, options.probe) if left else torch.empty(0)
        for together in _same_rows(left):
            for task, scores in zip(together, _scores(together, similar), strict=True):
                count = layout.feature_count(tap.depth, tap.pool or 0)
                progress.add(cell := Cell(task.task, tap.depth, tap.pool or 0, count, scores))
                place = f"{cell.task} at {cell.depth}, {cell.pool}x{cell.pool}"
                _log.info("searched %s: %.4f", place, cell.mean, extra={"action": "cell_searched"})


def _same_rows(tasks: list[_Folds]) -> list[list[_Folds]]:
    """Group the tasks that label the same faces: they share all the costly work."""
    found: dict[bytes, list[_Folds]] = {}
    for folds in tasks:
        found.setdefault(folds.rows.tobytes(), []).append(folds)
    return list(found.values())


def _scores(tasks: list[_Folds], similar: Tensor) -> list[tuple[float, ...]]:
    """Cross-validate tasks on the same faces with the (N, N) kernel of one tap."""
    rows, options = torch.from_numpy(tasks[0].rows), tasks[0].options
    known = similar if len(rows) == len(similar) else similar[rows][:, rows]
    wanted = [ProbeTarget(task.targets, SCORES[SEARCHED[task.task].spec.kind]) for task in tasks]
    return cross_validate(known, wanted, tasks[0].roles, options.probe)


def taps_of(layout: TrunkLayout) -> Iterator[Tap]:
    """Yield every depth of a trunk with every pooling that fits its map; the embedding has one."""
    for depth in layout.depths:
        if depth == EMBEDDING_DEPTH:
            yield Tap(depth, 1)
        else:
            yield from (Tap(depth, pool) for pool in POOLS if pool <= min(layout.maps[depth][1:]))


@dataclass(frozen=True, slots=True)
class _Folds:
    """One task's targets and folds on the faces of its data set."""

    task: str
    rows: NDArray[np.int64]
    """(M,) faces that have a label."""
    targets: Tensor
    """(M, K) float32."""
    roles: NDArray[np.int8]
    """(F, M), see ``training.depth.probes.roles``."""
    options: SearchOptions

    @classmethod
    def of(cls, task: str, faces: FaceSet, options: SearchOptions) -> _Folds:
        """Divide the labelled faces of a set; images of one person share a fold where people are known."""
        soft = targets(task, faces, len(SEARCHED[task].spec.labels))
        rows = labelled(task, soft, np.arange(len(faces)))
        people = faces.identity[rows] if isinstance(faces, CelebA) else None
        fold = assign_folds(len(rows), options.folds, options.seed, people)
        wanted = expected_age(soft[rows])[:, None] if task == "age" else soft[rows]
        return cls(task, rows, wanted, roles(fold, options.folds, options.seed), options)


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
