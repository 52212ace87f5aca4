"""The plot of a depth search; needs matplotlib, which the extra ``train`` brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from training.depth.grid import SEARCHED
from training.evaluate.report.plots import DOTS_PER_INCH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from training.depth.grid import Grid


def depth_figure(grid: Grid) -> Figure:
    """Draw each task's score over depth, one line for each pooling, with deviations over the folds."""
    columns = 2
    rows = -(-len(grid.tasks) // columns)
    figure = Figure(figsize=(5.2 * columns, 2.8 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for panel in panels[len(grid.tasks) :]:
        panel.set_axis_off()
    for panel, task in zip(panels, grid.tasks, strict=False):
        _draw_task(panel, grid, task)
    panels[0].legend(title="cells", fontsize=8, title_fontsize=8, loc="lower center")
    figure.suptitle(
        f"where to leave {grid.settings.trunk}: mean and deviation over {grid.settings.options.folds} folds"
    )
    return figure


def _draw_task(panel: Axes, grid: Grid, task: str) -> None:
    depths = list(grid.searched)
    sign, scale = (-1, 1) if task == "age" else (1, 100)
    for pool in sorted({cell.pool for cell in grid.of(task)}):
        cells = [cell for cell in grid.of(task) if cell.pool == pool]
        places = [depths.index(cell.depth) for cell in cells]
        means = [sign * scale * cell.mean for cell in cells]
        panel.errorbar(
            places, means, [scale * cell.deviation for cell in cells], label=f"{pool}x{pool}", capsize=2, lw=1.2
        )
    best, winner = grid.best(task), grid.winner(task)
    panel.plot(depths.index(best.depth), sign * scale * best.mean, "k*", ms=10, label="best")
    panel.plot(depths.index(winner.depth), sign * scale * winner.mean, "ko", ms=9, mfc="none", label="simplest")
    if task == "age":
        panel.invert_yaxis()
    panel.set_title(SEARCHED[task].title + ("" if task == "age" else ", %"), fontsize=10)
    panel.set_xticks(range(len(depths)), depths, rotation=60, ha="right", fontsize=7)
    panel.grid(alpha=0.3)
