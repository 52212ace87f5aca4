"""The search for the best depth of each attribute: every depth and pooling, cross-validated with small probes.

The trunk is frozen and runs once over each face; its maps at every depth, averaged over grids of 1 x 1, 2 x 2 and
3 x 3 cells, are kept on disk. Every cell of the grid is then a set of probes (``training.depth.probes``), fitted to all
folds but one and scored on that one; or a branch whose layers behind the depth are relearnt, see
``training.depth.relearn``. Only training and validation splits are read, never the test split.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.trunks.base import EMBEDDING_DEPTH
from training.depth.folds import Folds
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
from training.depth.probes import ProbeTarget, cross_validate, kernel
from training.depth.relearn import check_relearning, relearn_set
from training.fit.features import Tap
from training.fit.targets import READERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

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
        RecipeError: the folder holds a search with other settings, or the trunk lacks a depth that is to be relearnt.
    """
    if options.relearning:
        check_relearning(options.relearning, context.trunk.layout)
    settings = Settings(trunk, context.trunk.layout.depths, options)
    progress = GridProgress(out / "cells.jsonl", settings)
    for data in dict.fromkeys(SEARCHED[task].data for task in options.tasks):
        every = READERS[data](context.data)
        rows = np.random.default_rng(options.seed).permutation(np.flatnonzero(every.split != "test"))
        faces = every[np.sort(rows[: options.faces])]
        tasks = [task for task in options.tasks if SEARCHED[task].data == data]
        fill = relearn_set if options.relearning else _search_set
        fill(context, [Folds.of(task, faces, options) for task in tasks], faces, progress)
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


def _search_set(context: TrainingContext, tasks: Sequence[Folds], faces: FaceSet, progress: GridProgress) -> None:
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


def _same_rows(tasks: list[Folds]) -> list[list[Folds]]:
    """Group the tasks that label the same faces: they share all the costly work."""
    found: dict[bytes, list[Folds]] = {}
    for folds in tasks:
        found.setdefault(folds.rows.tobytes(), []).append(folds)
    return list(found.values())


def _scores(tasks: list[Folds], similar: Tensor) -> list[tuple[float, ...]]:
    """Cross-validate tasks on the same faces with the (N, N) kernel of one tap."""
    rows, options = torch.from_numpy(tasks[0].rows), tasks[0].options
    known = similar if len(rows) == len(similar) else similar[rows][:, rows]
    wanted = [ProbeTarget(task.targets, task.judge) for task in tasks]
    return cross_validate(known, wanted, tasks[0].roles, options.probe)


def taps_of(layout: TrunkLayout) -> Iterator[Tap]:
    """Yield every depth of a trunk with every pooling that fits its map; the embedding has one."""
    for depth in layout.depths:
        if depth == EMBEDDING_DEPTH:
            yield Tap(depth, 1)
        else:
            yield from (Tap(depth, pool) for pool in POOLS if pool <= min(layout.maps[depth][1:]))
