"""The grid of attribute by depth and pooling: its cells, winners, tables, and its progress on disk."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from training.data.face_sets import ORIGINAL_EMOTIONS, DataName
from training.depth.probes import ProbeOptions
from training.errors import RecipeError, unknown_names
from training.evaluate.report.tables import table
from training.recipes.catalogue import AGE, ATTRIBUTES, EMOTION, ETHNICITY, GENDER

if TYPE_CHECKING:
    from pathlib import Path

    from models.branches import BranchSpec
    from training.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class SearchedTask:
    """An attribute of the grid."""

    spec: BranchSpec
    """Kind and labels; depths and pooling are searched."""
    data: DataName
    title: str
    """Name and unit of the scores, for tables and plots."""


# Tasks that can be searched, by name.
SEARCHED: dict[str, SearchedTask] = {
    "gender": SearchedTask(GENDER.spec, "utkface", "gender, accuracy"),
    "age": SearchedTask(AGE.spec, "utkface", "age, mean error in years"),
    "ethnicity": SearchedTask(ETHNICITY.spec, "utkface", "ethnicity, accuracy"),
    "emotion": SearchedTask(EMOTION.spec, "fer2013", "emotion (FER+), accuracy"),
    "emotion7": SearchedTask(
        replace(EMOTION.spec, task="emotion7", labels=ORIGINAL_EMOTIONS),
        "fer2013",
        "emotion (FER2013's seven), accuracy",
    ),
    "attributes": SearchedTask(ATTRIBUTES.spec, "celeba10k", "attributes, mean accuracy"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Relearning:
    """A search with relearnt layers in place of probes."""

    depths: tuple[str, ...]
    """Behind which the trunk's own layers learn each task from random weights."""
    last: str
    """Depth of the last of these layers; its map is averaged and read by one linear layer."""
    epochs: int = 12
    """At most, for each fold."""
    patience: int = 3
    """Epochs without a better score on a tenth of the fold's training faces after which it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """Tasks, folds and probes of a search."""

    tasks: tuple[str, ...] = tuple(SEARCHED)
    folds: int = 5
    faces: int = 4000
    """At most, drawn from each data set's training and validation splits."""
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    seed: int = 0
    """Of the draw and the folds."""
    relearning: Relearning | None = None
    """None searches with probes."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.tasks) - set(SEARCHED)):
            raise unknown_names("tasks", unknown, SEARCHED)
        if self.folds < 2 or self.faces < self.folds:
            raise RecipeError(
                f"got {self.folds} folds of {self.faces} faces, expected 2 folds and more faces than folds"
            )


@dataclass(frozen=True, slots=True)
class Cell:
    """One attribute read at one depth with one pooling."""

    task: str
    depth: str
    pool: int
    features: int
    """Numbers that the branch's first linear layer reads; with relearnt layers the weights that they and it have."""
    scores: tuple[float, ...]
    """Of each fold; higher is better: accuracy, or minus the error of the age in years."""

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds."""
        return float(np.std(self.scores, ddof=1))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings under which cells are comparable; a search goes on only under the same."""

    trunk: str
    depths: tuple[str, ...]
    """Of the trunk, in order."""
    options: SearchOptions


@dataclass(frozen=True, slots=True)
class Grid:
    """A finished search."""

    settings: Settings
    cells: tuple[Cell, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that were searched, in the order of SEARCHED."""
        return tuple(task for task in SEARCHED if task in self.settings.options.tasks)

    @property
    def searched(self) -> tuple[str, ...]:
        """Depths that have cells, in the order of the trunk."""
        found = {cell.depth for cell in self.cells}
        return tuple(depth for depth in self.settings.depths if depth in found)

    def of(self, task: str) -> list[Cell]:
        """Return the cells of one task, by depth and pooling."""
        depths = self.settings.depths
        return sorted((c for c in self.cells if c.task == task), key=lambda c: (depths.index(c.depth), c.pool))

    def best(self, task: str) -> Cell:
        """Return the cell with the highest mean."""
        return max(self.of(task), key=lambda cell: cell.mean)

    def best_at(self, task: str, depth: str) -> Cell:
        """Return a depth's best pooling."""
        return max((cell for cell in self.of(task) if cell.depth == depth), key=lambda cell: cell.mean)

    def winner(self, task: str) -> Cell:
        """Return the simplest cell within one standard error of the best: fewest features, of these the better one.

        Source: the one-standard-error rule of Breiman et al. 1984, 'Classification and Regression Trees'.
        """
        best = self.best(task)
        enough = best.mean - best.deviation / len(best.scores) ** 0.5
        return min((c for c in self.of(task) if c.mean >= enough), key=lambda c: (c.features, -c.mean))


class GridProgress:
    """Finished cells in a file, a line each after a line of settings, so that a stopped search goes on."""

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file, or start one.

        Raises:
            RecipeError: the file holds a search with other settings.
        """
        self._path, self.settings = path, settings
        self.cells: list[Cell] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        first = TypeAdapter(Settings).dump_json(settings).decode()
        if not path.is_file():
            path.write_text(first + "\n")
        lines = path.read_text().splitlines()
        if lines[0] != first:
            raise RecipeError(f"{path} holds a search with other settings; choose another folder or delete it")
        self.cells = [cell for line in lines[1:] if (cell := _cell(line))]
        path.write_text("".join(f"{line}\n" for line in [first, *map(_line, self.cells)]))

    def has(self, task: str, depth: str, pool: int) -> bool:
        """Return whether a cell is finished."""
        return any((c.task, c.depth, c.pool) == (task, depth, pool) for c in self.cells)

    def add(self, cell: Cell) -> None:
        """Append a finished cell."""
        self.cells.append(cell)
        with self._path.open("a") as stream:
            stream.write(_line(cell) + "\n")


def _line(cell: Cell) -> str:
    return TypeAdapter(Cell).dump_json(cell).decode()


def _cell(line: str) -> Cell | None:
    """Parse a line; None for one that was cut off when the search was stopped."""
    try:
        return TypeAdapter(Cell).validate_json(line)
    except ValidationError:
        return None


def cell_text(cell: Cell) -> str:
    """Format mean and deviation: '93.9 ± 0.4 %', or '4.62 ± 0.05' years."""
    if cell.task == "age":
        return f"{-cell.mean:.2f} ± {cell.deviation:.2f}"
    return f"{cell.mean * 100:.1f} ± {cell.deviation * 100:.1f} %"


def depth_table(grid: Grid) -> str:
    """Format depth by attribute as Markdown, with the best pooling of each depth; the best depth is bold."""
    best = {task: grid.best(task) for task in grid.tasks}

    def entry(task: str, depth: str) -> str:
        cell = grid.best_at(task, depth)
        text = f"{cell_text(cell)} ({cell.pool}x{cell.pool})"
        return f"**{text}**" if cell == best[task] else text

    rows = [[depth, *(entry(task, depth) for task in grid.tasks)] for depth in grid.searched]
    return table(("depth", *(SEARCHED[task].title for task in grid.tasks)), rows)


def winner_table(grid: Grid) -> str:
    """Format the best and the winning cell of each attribute as Markdown."""
    rows = []
    for task in grid.tasks:
        best, winner = grid.best(task), grid.winner(task)
        places = [f"{c.depth}, {c.pool}x{c.pool}" for c in (best, winner)]
        rows.append([task, places[0], cell_text(best), places[1], cell_text(winner), str(winner.features)])
    size = "weights" if grid.settings.options.relearning else "features"
    return table(("task", "best", "score", "simplest within one standard error", "score", size), rows)


def to_csv(grid: Grid) -> str:
    """Write every cell as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("task", "depth", "pool", "features", "mean", "deviation", "folds"))
    for task in grid.tasks:
        writer.writerows(
            (c.task, c.depth, c.pool, c.features, f"{c.mean:.5f}", f"{c.deviation:.5f}", len(c.scores))
            for c in grid.of(task)
        )
    return stream.getvalue()


def to_json(grid: Grid) -> str:
    """Write settings and every cell as JSON."""
    return TypeAdapter(Grid).dump_json(grid, indent=2).decode() + "\n"


def from_json(text: str) -> Grid:
    """Read the JSON of ``to_json``.

    Raises:
        RecipeError: it is no such JSON.
    """
    try:
        return TypeAdapter(Grid).validate_json(text)
    except ValidationError as err:
        raise RecipeError(f"this is no grid of facet-train depth-search: {err.errors()[0]['msg']}") from err


def winning(recipe: Recipe, grid: Grid) -> Recipe:
    """Return a recipe whose branches leave the trunk at the winning cells; branches that were not searched stay.

    Own stages are dropped: the winners were searched without any. Layers are relearnt where the winners' were.
    """
    relearning = grid.settings.options.relearning

    def moved(task: str) -> BranchSpec:
        spec = recipe.head(task).spec
        if task not in grid.tasks:
            return spec
        cell, last = grid.winner(task), relearning.last if relearning else None
        depths = grid.settings.depths
        last = last if last and depths.index(cell.depth) < depths.index(last) else None
        return replace(spec, depths=(cell.depth,), pool=cell.pool, stages=(), relearnt_to=last)

    heads = tuple(replace(head, spec=moved(head.spec.task)) for head in recipe.heads)
    return replace(recipe, name=f"{recipe.name}-searched", heads=heads)
