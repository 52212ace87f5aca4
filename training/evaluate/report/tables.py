"""Figures as Markdown tables, for the terminal and the model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.data.face_sets import ETHNICITIES, GENDERS
from training.errors import TrainingError
from training.evaluate.age_bins import FOURTEEN, NINE
from training.evaluate.operating_points import FALSE_POSITIVES, TASK, TRUE_POSITIVES
from training.evaluate.recalls import BALANCED, FEW_FACES, RECALL
from training.evaluate.robustness.degraded import BY_COPY
from training.evaluate.robustness.pair_rates import FALSE_PAIRS, TRUE_PAIRS
from training.evaluate.scores import AGE_BANDS, COVERAGE, CROSS_ENTROPY, EXACT_YEAR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from training.evaluate.evaluate import Evaluation
    from training.evaluate.findings import Row
    from training.evaluate.metrics import Figure

# Measures that are no shares of 1, so they are not written in percent.
NOT_SHARES = ("mean absolute error", "root mean square error", "false positives per photo", CROSS_ENTROPY)
FINER_MEASURES = (
    ("age", EXACT_YEAR),
    *(("age", f"accuracy of {bins.name}") for bins in (NINE, FOURTEEN)),
    *((task, CROSS_ENTROPY) for task in ("age", "gender", "ethnicity")),
)
GROUP_MEASURES = (
    ("gender", "accuracy"),
    ("ethnicity", "accuracy"),
    ("age", "mean absolute error"),
    ("age", COVERAGE),
)
BY_SIZE = ", by size"  # behind the name of a task
_GROUP_HEAD = ("group", "faces", "gender", "ethnicity", "age: mean absolute error", f"age: {COVERAGE}")


def figure_text(measure: str, figure: Figure, *, interval: bool = True) -> str:
    """Format a figure: '94.2 % (92.8-95.5)', or '4.62 (4.31-4.95)' where it is no share."""
    scale, unit, digits = (1.0, "", 2) if measure in NOT_SHARES else (100.0, " %", 1)
    value = f"{figure.value * scale:.{digits}f}{unit}"
    if not interval or figure.low != figure.low:  # NaN: no interval was measured
        return value
    return f"{value} ({figure.low * scale:.{digits}f}-{figure.high * scale:.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """Format a Markdown table; the first columns, so many as hold texts, are aligned left, all others right."""
    rule = [*["---"] * texts, *["---:"] * (len(head) - texts)]
    lines = [" | ".join(head), " | ".join(rule), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def overall(found: Evaluation) -> str:
    """Format all figures over whole sets."""
    rows = [
        (f"{row.data}, {row.task}", row.measure, figure_text(row.measure, row.figure), _count(found, row))
        for row in found.rows
        if row.group == "all"
    ]
    return table(("set, task", "measure", "value (95 % interval)", "count"), rows)


def _count(found: Evaluation, row: Row) -> str:
    """Format the faces behind a figure; behind a mean over classes also those of each class that has few."""
    of_classes = _class_rows(found, row.data, row.task) if row.measure.startswith(BALANCED) else []
    few = [f"{one.group} {one.figure.count}" for one in of_classes if one.figure.count < FEW_FACES]
    return f"{row.figure.count} ({', '.join(few)})" if few else str(row.figure.count)


def _class_rows(found: Evaluation, data: str, task: str) -> list[Row]:
    """Return the recall of each class of a head."""
    return [row for row in found.rows if (row.data, row.task, row.measure) == (data, task, RECALL)]


def recalls(found: Evaluation) -> str:
    """Format the recall of each class of each head; empty where none was measured."""
    rows = [
        (f"{row.data}, {row.task}", row.group, figure_text(RECALL, row.figure), str(row.figure.count))
        for row in found.rows
        if row.measure == RECALL
    ]
    return table(("set, task", "class", "recall", "faces"), rows) if rows else ""


def found_faces(found: Evaluation) -> str:
    """Format how the faces of each set were found."""
    head = ("set", "images", "found at once", "found resized or framed", "not found (cut at typical landmarks)", "rows")
    facts = ((s.data, s.images, s.first_view, s.later_views, s.missed, s.measured) for s in found.sets)
    return table(head, [[str(value) for value in row] for row in facts])


def _group_row(found: Evaluation, group: str, measures: Sequence[tuple[str, str]] = GROUP_MEASURES) -> list[str] | None:
    figures = [(m, found.find("utkface", task, m, group)) for task, m in measures]
    count = max((figure.count for _, figure in figures if figure), default=0)
    if count == 0:
        return None
    return [group, str(count), *(figure_text(m, figure) if figure else "" for m, figure in figures)]


def single_groups(found: Evaluation) -> str:
    """Format UTKFace by gender, by ethnicity and by age band."""
    names = [*GENDERS, *ETHNICITIES, *(name for name, _, _ in AGE_BANDS)]
    rows = [row for name in names if (row := _group_row(found, name))]
    return table(_GROUP_HEAD, rows)


def finer_groups(found: Evaluation) -> str:
    """Format exact years, bins of ages and cross-entropies by gender, ethnicity and age band; empty without them."""
    names = [*GENDERS, *ETHNICITIES, *(name for name, _, _ in AGE_BANDS)]
    measured = [place for place in FINER_MEASURES if found.find("utkface", *place)]
    rows = [row for name in names if (row := _group_row(found, name, measured))]
    head = ("group", "faces", *(f"{task}: {name.removeprefix('accuracy of ')}" for task, name in measured))
    return table(head, rows) if measured and rows else ""


def crossed_groups(found: Evaluation) -> str:
    """Format UTKFace by gender, ethnicity and age band together."""
    names = [f"{g} / {e} / {band}" for g in GENDERS for e in ETHNICITIES for band, _, _ in AGE_BANDS]
    rows = [row for name in names if (row := _group_row(found, name))]
    return table(_GROUP_HEAD, rows)


def attributes(found: Evaluation) -> str:
    """Format accuracy and balanced accuracy of each of the forty attributes."""
    rows = []
    for row in found.rows:
        if row.task == "attributes" and row.group != "all" and row.measure == "accuracy":
            balanced = found.find(row.data, row.task, "balanced accuracy", row.group)
            texts = [figure_text("", figure) if figure else "" for figure in (row.figure, balanced)]
            rows.append((row.group, *texts))
    return table(("attribute", "accuracy", "balanced accuracy"), rows)


def by_size(found: Evaluation) -> str:
    """Format figures by the shorter side of the face in its frame; empty where sizes were not measured."""
    rows = [row for row in found.rows if row.task.endswith(BY_SIZE)]
    return _grid(found, rows, ("face", "shown"), BY_SIZE)


def by_degradation(found: Evaluation) -> str:
    """Format the main figures on each degraded copy, a table for each set; empty where there are none."""
    rows = [row for row in found.rows if row.task.endswith(BY_COPY)]
    sets = dict.fromkeys(row.data for row in rows)
    parts = [_grid(found, [r for r in rows if r.data == data], ("copy", "faces"), BY_COPY) for data in sets]
    return "\n\n".join(parts)


def rates_by_group(found: Evaluation) -> str:
    """Format verification at few false pairs by group, a table for each task; empty where it was not measured."""
    rows = [row for row in found.rows if row.measure.startswith((TRUE_PAIRS, FALSE_PAIRS))]
    tasks = dict.fromkeys((row.data, row.task) for row in rows if row.group != "all")
    own = [[row for row in rows if (row.data, row.task) == task] for task in tasks]
    parts = [_grid(found, some, ("group", "people or images"), "") for some in own]
    return "\n\n".join(parts)


def _grid(found: Evaluation, rows: Sequence[Row], first: tuple[str, str], suffix: str) -> str:
    """Format figures with a line for each group and a column for each set, task and measure; empty without rows.

    Args:
        found: all figures.
        rows: those of the table.
        first: heads of the columns with the groups and their faces.
        suffix: is taken off the names of tasks.
    """
    columns = list(dict.fromkeys((row.data, row.task, row.measure) for row in rows))
    lines = []
    for group in dict.fromkeys(row.group for row in rows):
        figures = [(place[2], found.find(*place, group)) for place in columns]
        counts = [figure.count for _, figure in figures if figure]
        lines.append(
            [group, str(max(counts, default=0)), *(figure_text(m, f) if f and f.count else "" for m, f in figures)]
        )
    head = (*first, *(f"{data}, {task.removesuffix(suffix)}: {name}" for data, task, name in columns))
    return table(head, lines) if lines else ""


def operating(found: Evaluation) -> str:
    """Format ethnicity label by label; empty where no thresholds could be chosen."""
    labels = [row for row in found.rows if row.task == TASK and row.measure == TRUE_POSITIVES and row.group != "all"]
    rows = []
    for row in labels:
        false = found.find(row.data, TASK, FALSE_POSITIVES, row.group)
        rows.append([f"{row.data}, {row.group}", figure_text("", row.figure), figure_text("", false) if false else ""])
    return table(("set, label", "true positives", "false positives"), rows) if rows else ""


# Lines between which ``fill_page`` writes; the prose around them is written by hand.
START, END = "<!-- figures: start -->", "<!-- figures: end -->"


def fill_page(text: str, figures: str) -> str:
    """Replace everything between the lines START and END of a page.

    Raises:
        TrainingError: the page has no such lines.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise TrainingError(f"the page has no lines {START} and {END}; add them where the figures belong")
    return f"{before}{START}\n{figures}{END}{after}"
