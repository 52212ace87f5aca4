"""The figure of regions over the mean aligned crop; needs matplotlib, which the extra ``train`` brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from training.evaluate.report.plots import DOTS_PER_INCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class RegionPanel:
    """One label of the figure."""

    label: str
    response: NDArray[np.float32]
    """(h, w) mean, 0..1."""
    box: NDArray[np.float32]
    """(4,) x0, y0, x1, y1 in pixels of the crop."""


def region_figure(face: NDArray[np.float32], panels: Sequence[RegionPanel], first: float, step: float) -> Figure:
    """Draw each label's mean response and region over the mean face.

    Args:
        face: (S, S, 3) mean aligned crop, 0..255.
        panels: one a label.
        first: where place 0 of a map has its middle, in pixels of the crop.
        step: pixels between places.
    """
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(2.4 * _COLUMNS, 2.6 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, _COLUMNS)).ravel()
    for panel in axes:
        panel.set_axis_off()
    for panel, found in zip(axes, panels, strict=False):
        _draw(panel, face, found, (first, step))
    figure.suptitle(
        "mean response of the faces with an attribute, and its region, over the mean of all faces", fontsize=9
    )
    return figure


def _draw(panel: Axes, face: NDArray[np.float32], found: RegionPanel, places: tuple[float, float]) -> None:
    side, (first, step) = len(face), places
    height, width = found.response.shape
    left, bottom = first - step / 2, first + (height - 0.5) * step
    panel.imshow(face.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=(0, side, side, 0))
    panel.imshow(found.response, cmap="inferno", alpha=0.5, extent=(left, first + (width - 0.5) * step, bottom, left))
    x0, y0, x1, y1 = found.box
    panel.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="cyan", lw=1.5))
    panel.set_xlim(0, side)
    panel.set_ylim(side, 0)
    panel.set_title(found.label.replace("_", " "), fontsize=9)
