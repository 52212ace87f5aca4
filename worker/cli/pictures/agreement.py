"""``facet agreement``: how far the heads agree with people who labelled a sample."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import JsonFlag, console, echo, print_json, table
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from worker.pictures.labels.agreement import Agreement, Compared
    from worker.pictures.labels.figures import Figure

COLUMNS = ("head", "group", "faces", "answered", "accuracy", "kappa", "years off", "bias", "icc")


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet agreement to-label")(agreement)


def agreement(
    folder: Annotated[Path, typer.Argument(help="Folder of `facet sample`.")],
    labels: Annotated[
        list[Path] | None,
        typer.Argument(help="Tables (CSV) and exports of Label Studio (JSON); default: labels.csv in the folder."),
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Compare labels of people with the heads of the active release: accuracy, kappa, years off, by group.

    Figures are of the archive that the sample was drawn from, with intervals of 95 %. Several labels of a face count by
    majority (years: median), and are compared with each other.
    """
    from worker.pictures.labels.agreement import measure_agreement
    from worker.pictures.labels.folder import TABLE, read_design
    from worker.pictures.labels.reading import read_answers

    design = read_design(folder)
    given = read_answers(labels or [folder / TABLE], design.heads)
    if not given:
        raise UsageError(
            f"{', '.join(map(str, labels or [folder / TABLE]))} has no label yet, expected some to compare"
        )
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        found = measure_agreement(config.reader_database_url or database.url, design, given)
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)


def _show(found: Compared) -> None:
    rows = [_cells(row) for row in found.rows]
    console().print(table("Agreement with people", COLUMNS, rows, prose=COLUMNS[4:]))
    for count, what in (
        (found.gone, "labelled faces are no longer in the archive under the active release, and do not count"),
        (found.foreign, "labelled faces are not of this sample, and do not count"),
        (found.undecided, "answers have no majority among people, and do not count"),
    ):
        if count:
            echo(f"{count:,} {what}", err=True)


def _cells(row: Agreement) -> tuple[object, ...]:
    answered = None if row.answered is None else round(row.answered, 3)
    shares = (row.accuracy, row.kappa), (row.mean_error, row.bias), (row.icc,)
    digits = (3, 1, 3)
    figures = [_text(one, digit) for group, digit in zip(shares, digits, strict=True) for one in group]
    return (row.head, row.group, row.faces, answered, *figures)


def _text(figure: Figure | None, digits: int) -> str | None:
    if figure is None:
        return None
    interval = "" if figure.low is None else f" [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"
    return f"{figure.value:.{digits}f}{interval}"
