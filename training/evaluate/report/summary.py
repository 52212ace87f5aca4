"""One table for readers: how good each head is on its test rows, on bad images, for whom it is worst, and elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.evaluate.recalls import BALANCED, FEW_FACES, RECALL
from training.evaluate.report.judged import merit
from training.evaluate.report.tables import figure_text, table
from training.evaluate.robustness.degraded import BY_COPY, DEGRADED
from training.evaluate.scores import COVERAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from training.evaluate.evaluate import Evaluation
    from training.evaluate.findings import Row

_HEAD = ("head", "measure", "test rows", "degraded copies", "worst copy", "worst group or class", "other sets")


@dataclass(frozen=True, slots=True)
class _MainFigure:
    """The figure that stands for a head."""

    task: str
    measure: str
    data: str
    """The set whose labels it has learnt."""
    images: str
    """Name of the set under which its degraded copies are measured."""


_MAIN = (
    _MainFigure("gender", BALANCED, "utkface", "utkface"),
    _MainFigure("ethnicity", BALANCED, "utkface", "utkface"),
    _MainFigure("age", "mean absolute error", "utkface", "utkface"),
    _MainFigure("age", COVERAGE, "utkface", "utkface"),
    _MainFigure("emotion", BALANCED, "ferplus", "fer2013"),
    _MainFigure("emotion7", BALANCED, "fer2013", "fer2013"),
    _MainFigure("attributes", "mean accuracy", "celeba10k", "celeba10k"),
)


def reader_table(found: Evaluation) -> str:
    """Format one line for each main figure; empty where none was measured on test rows."""
    lines = [line for main in _MAIN if (line := _line(found, main))]
    return table(_HEAD, lines, texts=2) if lines else ""


def _line(found: Evaluation, main: _MainFigure) -> tuple[str, ...] | None:
    figure = found.find(main.data, main.task, main.measure)
    if figure is None:
        return None
    degraded = found.find(main.images, main.task + DEGRADED, main.measure)
    copies = _rows(found, lambda r: (r.data, r.task, r.measure) == (main.images, main.task + BY_COPY, main.measure))
    grouped = RECALL if main.measure == BALANCED else main.measure
    groups = _rows(found, lambda r: (r.data, r.task, r.measure) == (main.data, main.task, grouped))
    other = _rows(found, lambda r: (r.task, r.measure) == (main.task, main.measure) and r.data != main.data)
    elsewhere = [f"{row.data} {figure_text(row.measure, row.figure, interval=False)}" for row in other]
    return (
        main.task,
        main.measure,
        figure_text(main.measure, figure),
        figure_text(main.measure, degraded) if degraded else "",
        _worst(row for row in copies if row.group != "all"),
        _worst(row for row in groups if row.group != "all" and " / " not in row.group),
        ", ".join(text for text, row in zip(elsewhere, other, strict=True) if row.group == "all"),
    )


def _rows(found: Evaluation, chosen: Callable[[Row], bool]) -> list[Row]:
    return [row for row in found.rows if chosen(row)]


def _worst(rows: Iterable[Row]) -> str:
    """Format the worst figure of those with enough faces, with its group."""
    enough = [row for row in rows if row.figure.count >= FEW_FACES]
    if not enough:
        return ""
    merits = [float(merit(row.measure, np.array([row.figure.value]))[0]) for row in enough]
    row = enough[int(np.argmin(merits))]
    return f"{row.group} {figure_text(row.measure, row.figure, interval=False)}"
