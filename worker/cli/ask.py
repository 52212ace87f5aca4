"""``facet sql`` and ``facet sheet``: queries and contact sheets."""

from __future__ import annotations

import itertools
import sys
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.empty import explain_empty
from worker.cli.output.terminal import JsonFlag, console, echo, table, utf8_or_none
from worker.config import settings
from worker.errors import FacetError, UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import IO

    from db.reader.run_query import QueryResult
    from worker.config import Settings

TABLE_ROWS = 1000  # lines of a terminal's table, which is cut there; other formats have all rows


class QueryFormat(StrEnum):
    """Format of the rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    XLSX = "xlsx"


def add_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog='Example: facet sql "SELECT gender, count(*) FROM people GROUP BY 1" --format csv')(sql)
    app.command(epilog="Example: facet sheet --job 3 -o faces.png")(sheet)


def sql(  # noqa: PLR0913, PLR0917 - the options of a command are its arguments
    query: Annotated[
        str | None,
        typer.Argument(
            help="One SELECT over the views (docs/sql.md); '-' reads standard input; without it, a shell opens.",
            callback=utf8_or_none,
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="File with the query, in its place.")] = None,
    form: Annotated[
        QueryFormat | None,
        typer.Option("--format", help="Format of the rows; default: by the ending of -o, else a table."),
    ] = None,
    as_json: JsonFlag = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write (.csv, .json, .parquet, .xlsx); default: the terminal."),
    ] = None,
    timeout_seconds: Annotated[
        float, typer.Option("--timeout", help="Maximum of seconds for a query.", min=0.1)
    ] = 300.0,
    spreadsheet: Annotated[
        bool,
        typer.Option("--spreadsheet", help="In CSV, put ' before text that a spreadsheet would run as a formula."),
    ] = False,
) -> None:
    """Run a read-only query over media, jobs, faces, appearances, people, releases and predictions."""
    from db.reader.run_query import run_query

    chosen = _format(QueryFormat.JSON if as_json else form, output)
    if spreadsheet and chosen is not QueryFormat.CSV:
        raise UsageError("--spreadsheet is for CSV only; add --format csv")
    config = settings()
    make_home(config.home)
    if query is None and file is None and sys.stdin.isatty():
        _open_shell(config, timeout_seconds)
        return
    text = _query(query, file)
    with open_database(config) as database:
        url = config.reader_database_url or database.url
        with run_query(url, text, timeout_seconds=timeout_seconds) as result:
            _write(result, chosen, output, spreadsheet=spreadsheet)
        explain_empty(database, config)


def _open_shell(config: Settings, timeout_seconds: float) -> None:
    """Answer queries that are typed, until their user ends the shell."""
    from worker.cli.output.sql_shell import SqlShell

    with open_database(config) as database:
        url = config.reader_database_url or database.url
        SqlShell(url, _print_table, timeout_seconds, config.home / "sql-history").run()


def _query(query: str | None, file: Path | None) -> str:
    """Return the text of the query: the argument, a file, or else standard input.

    Raises:
        UsageError: there are two, or the file cannot be read.
    """
    if query is not None and file is not None:
        raise UsageError("got a query and -f FILE, expected one of them")
    if file is None:
        return sys.stdin.read() if query is None or query == "-" else query
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"{file} cannot be read: {getattr(err, 'strerror', None) or err}") from err


def _format(form: QueryFormat | None, output: Path | None) -> QueryFormat:
    """Return the format that was asked for, or that of the file's ending.

    Raises:
        UsageError: the ending names no format.
    """
    if form is not None or output is None:
        return form or QueryFormat.TABLE
    by_ending = {f".{one.value}": one for one in QueryFormat if one is not QueryFormat.TABLE}
    if output.suffix.lower() not in by_ending:
        raise UsageError(
            f"{output} ends in {output.suffix or 'nothing'!r}, expected one of {', '.join(by_ending)}; or add --format "
            "(for a spreadsheet: -o FILE.xlsx)"
        )
    return by_ending[output.suffix.lower()]


def _write(result: QueryResult, form: QueryFormat, output: Path | None, *, spreadsheet: bool) -> None:
    if form is QueryFormat.TABLE:
        if output is not None:
            raise UsageError("a table is for the terminal, expected a format for a file; use --format csv")
        _print_table(result)
        return
    from worker.pictures.exports import row_formats

    if form in {QueryFormat.JSON, QueryFormat.PARQUET}:
        _report_numbered(result.columns, row_formats.unique_names(result.columns))
    if form in {QueryFormat.PARQUET, QueryFormat.XLSX}:
        if output is None:
            raise UsageError(f"{form.value} is a binary format, expected a file; add -o FILE.{form.value}")
        _write_binary(result, form, output)
    else:
        writer = (
            row_formats.write_json
            if form is QueryFormat.JSON
            else partial(row_formats.write_csv, spreadsheet=spreadsheet)
        )
        try:
            with output.open("w", newline="", encoding="utf-8") if output else _standard_output() as stream:
                writer(result, stream)
        except BrokenPipeError:
            raise  # the reader of standard output has ended
        except OSError as err:
            raise FacetError(f"{output or 'standard output'} cannot be written: {err.strerror}") from err


def _write_binary(result: QueryResult, form: QueryFormat, output: Path) -> None:
    if form is QueryFormat.PARQUET:
        from worker.pictures.exports.row_formats import write_parquet

        write_parquet(result, output)
    else:
        from worker.pictures.exports.workbook import write_workbook

        write_workbook(result, output)


def _report_numbered(columns: Sequence[str], names: Sequence[str]) -> None:
    numbered = [f"{name} as {unique}" for name, unique in zip(columns, names, strict=True) if name != unique]
    if numbered:
        echo(f"columns of one name are numbered: {', '.join(numbered)}; rename them with AS", err=True)


@contextmanager
def _standard_output() -> Iterator[IO[str]]:
    yield sys.stdout


def _print_table(result: QueryResult, prose: Collection[str] = ()) -> None:
    out = console()
    rows = list(itertools.islice(result, TABLE_ROWS + 1))
    drawn = table("", result.columns, rows[:TABLE_ROWS], prose)
    shown = min(len(rows), TABLE_ROWS if drawn.fits(out.width) else max(1, TABLE_ROWS // len(result.columns)))
    out.print(drawn if shown == len(rows) else table("", result.columns, rows[:shown], prose))
    if len(rows) > shown:
        echo(f"(the first {shown} rows; use --format csv for all)")


def sheet(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .png, .jpg or .webp; further pages lie beside it.")
    ],
    job: Annotated[int | None, typer.Option("--job", help="Draw only faces of this job's files.")] = None,
    person: Annotated[
        str | None, typer.Option("--person", help="Draw only this person: number or name.", callback=utf8_or_none)
    ] = None,
    per_person: Annotated[
        int | None, typer.Option("--per-person", help="Maximum number of faces of each person, the best ones.", min=1)
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="SQL condition over the views appearances and media.", callback=utf8_or_none),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Maximum number of faces.", min=1, max=2000)] = 200,
) -> None:
    """Draw a contact sheet: the best face of each appearance, grouped by person."""
    from worker.cli.output.images import check_image, write_sheets
    from worker.cli.people.corrections import named_person
    from worker.identity.search.condition import read_matching
    from worker.pictures.tiles import Choice, TileReader
    from worker.storage.crops import CropStore

    check_image(output)
    config = settings()
    make_home(config.home)
    with open_database(config) as database:
        url = config.reader_database_url or database.url
        number = None if person is None else named_person(database, person)
        given = None if where is None else read_matching(url, where, number)
        # One more than are drawn, to know whether there are more.
        choice = Choice(job_id=job, person_id=number, appearances=given, per_person=per_person, limit=limit + 1)
        with database.sessions.begin() as session:
            tiles = TileReader(session, CropStore(config.crops)).tiles(choice)
    if not tiles:
        raise UsageError(_no_face(config, is_chosen=any(one is not None for one in (job, person, where))))
    drawn = tiles[:limit]
    write_sheets(drawn, f"Facet: {len(drawn)} appearances", output)
    if len(tiles) > limit:
        echo(f"these are the first {limit}, there are more; pass --limit (up to 2000), --where or --person", err=True)


def _no_face(config: Settings, *, is_chosen: bool) -> str:
    if is_chosen:
        return "no appearance with a face is chosen; widen --job, --person or --where, or see `facet people list`"
    return f"there is no face to draw in {config.home}; analyse something first, or see `facet people list`"
