"""Plots as PNG files; needs matplotlib, which the extra ``train`` brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.evaluate.report.tables import GROUP_MEASURES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.evaluate.curves import Confusion, Curve
    from training.evaluate.evaluate import Evaluation
    from training.evaluate.findings import Row

DOTS_PER_INCH = 80  # keeps files below 100 kB, and labels readable


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path)
    return path


def evaluation_figures(found: Evaluation) -> dict[str, Figure]:
    """Draw all plots of an evaluation, by name of the file."""
    figures = {f"confusion-{_file_name(c.data, c.task)}.png": _confusion_figure(c) for c in found.confusions}
    calibration = [curve for curve in found.curves if curve.kind == "calibration"]
    abstention = [curve for curve in found.curves if curve.kind == "abstention"]
    if calibration:
        figures["calibration.png"] = _calibration_figure(calibration, found)
    if abstention:
        figures["abstention.png"] = _abstention_figure(abstention)
    singles = _single_groups(found)
    if rows := [r for r in found.rows if r.group in singles and (r.task, r.measure) in GROUP_MEASURES]:
        figures["groups.png"] = _bars_figure(rows, singles)
    if rows := [row for row in found.rows if row.task.endswith(", by size") and row.figure.count]:
        figures["sizes.png"] = _bars_figure(rows, list(dict.fromkeys(row.group for row in rows)))
    return figures


def _file_name(*words: str) -> str:
    return "-".join(words).replace(", ", "-").replace(" ", "-")


def _single_groups(found: Evaluation) -> list[str]:
    """Return gender, ethnicity and age groups that were measured, not their combinations."""
    measured = {task for task, _ in GROUP_MEASURES}
    names = dict.fromkeys(row.group for row in found.rows if row.task in measured)
    return [name for name in names if name != "all" and " / " not in name]


def _confusion_figure(matrix: Confusion) -> Figure:
    """Draw the share of each true label that got each answer."""
    counts = np.array(matrix.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(matrix.labels)
    side = 2.5 + 0.45 * size
    figure = Figure(figsize=(side, side), dpi=DOTS_PER_INCH, layout="constrained")
    panel = figure.subplots()
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            colour = "white" if shares[row, column] > 0.5 else "black"
            panel.text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center", color=colour, fontsize=7)
    names = [f"{label} ({count})" for label, count in zip(matrix.labels, counts.sum(axis=1), strict=True)]
    panel.set_xticks(range(size), matrix.labels, rotation=60, ha="right", fontsize=8)
    panel.set_yticks(range(size), names, fontsize=8)
    panel.set_xlabel("answered")
    panel.set_ylabel("labelled (faces)")
    panel.set_title(f"{matrix.data}: {matrix.task}", fontsize=10)
    return figure


def _calibration_figure(curves: Sequence[Curve], found: Evaluation) -> Figure:
    figure = Figure(figsize=(5, 5), dpi=DOTS_PER_INCH, layout="constrained")
    panel = figure.subplots()
    panel.plot((0, 1), (0, 1), "k:", lw=1)
    for curve in curves:
        temperature = found.temperatures.get(curve.task)
        suffix = f", temperature {temperature:.2f}" if temperature else ""
        panel.plot(curve.x, curve.y, "o-", ms=3, lw=1.2, label=f"{curve.data}, {curve.task}{suffix}")
    panel.set(xlabel="confidence", ylabel="share that is right", title="calibration")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
    return figure


def _abstention_figure(curves: Sequence[Curve]) -> Figure:
    """Draw the error of the answers given over the share of faces answered; ages beside the others."""
    figure = Figure(figsize=(9, 4), dpi=DOTS_PER_INCH, layout="constrained")
    shares, years = figure.subplots(1, 2)
    for curve in curves:
        panel, scale = (years, 1) if curve.task == "age" else (shares, 100)
        panel.plot(np.multiply(curve.x, 100), np.multiply(curve.y, scale), label=f"{curve.data}, {curve.task}")
    for panel, title in ((shares, "answers that are wrong, %"), (years, "mean error of the ages, years")):
        panel.set(xlabel="faces answered, surest first, %", title=title, ylim=(0, None))
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize=8)
    return figure


def _bars_figure(rows: Sequence[Row], groups: Sequence[str]) -> Figure:
    """Draw each figure by group, with its interval."""
    places = list(dict.fromkeys((row.data, row.task, row.measure) for row in rows))
    figure = Figure(figsize=(1.5 + 0.5 * len(groups), 2.6 * len(places)), dpi=DOTS_PER_INCH, layout="constrained")
    for panel, place in zip(np.atleast_1d(figure.subplots(len(places), 1)), places, strict=True):
        here = [row for row in rows if (row.data, row.task, row.measure) == place]
        values = np.array([row.figure.value for row in here])
        spread = np.abs(np.array([(row.figure.low, row.figure.high) for row in here]).T - values)
        at = [groups.index(row.group) for row in here]
        panel.errorbar(at, values, spread, fmt="o", capsize=3)
        panel.set_xticks(range(len(groups)), groups, rotation=45, ha="right", fontsize=8)
        panel.set_title(", ".join(place), fontsize=9)
        panel.grid(alpha=0.3)
    return figure
