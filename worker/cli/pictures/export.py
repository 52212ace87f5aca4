"""``facet export``: appearances in the formats of other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.output.terminal import console, echo, utf8_or_none
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home


class ExportFormat(StrEnum):
    """Formats of appearances."""

    VTT = "vtt"
    SRT = "srt"
    ASS = "ass"
    EAF = "eaf"
    IIIF = "iiif"
    CSV = "csv"
    DATA = "data"


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet export vtt --media 12 -o wedding.vtt")(export)


def export(  # noqa: PLR0913, PLR0917 - the options of a command are its arguments
    form: Annotated[
        ExportFormat,
        typer.Argument(
            metavar="FORMAT",
            help="vtt, srt, ass: subtitles; eaf: ELAN; iiif: web annotations; csv: a row each; data: all views.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; for several files, and for data, a folder.")
    ],
    media: Annotated[int | None, typer.Option("--media", help="Write only this file's appearances.")] = None,
    job: Annotated[int | None, typer.Option("--job", help="Write only appearances in this job's files.")] = None,
    person: Annotated[int | None, typer.Option("--person", help="Write only this person's appearances.")] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="SQL condition over the views appearances and media.", callback=utf8_or_none),
    ] = None,
    base_url: Annotated[
        str, typer.Option("--base", help="Base of the addresses in web annotations.")
    ] = "https://example.org/facet",
) -> None:
    """Write who appears when, and where in the frame, as subtitles, for ELAN, for IIIF viewers or as a table."""
    from worker.pictures.exports.registry import document_formats, write_documents, write_table
    from worker.pictures.exports.segments import SegmentSelection, read_segments

    config = settings()
    make_home(config.home)
    selection = SegmentSelection(media_id=media, job_id=job, person_id=person, where=where)
    if form is ExportFormat.DATA and selection != SegmentSelection():
        raise UsageError("data is all of the archive, expected no --media, --job, --person or --where; leave them out")
    with open_database(config) as database:
        url = config.reader_database_url or database.url
        if form is ExportFormat.DATA:
            _export_data(url, output)
            return
        with read_segments(url, selection) as files:
            if form is ExportFormat.CSV:
                count, unit = write_table(files, output), "appearance"
            else:
                count, unit = write_documents(document_formats(base_url)[form], files, output), "file"
    echo(f"{count:,} {unit}{'s' * (count != 1)} written to {output}")


def _export_data(url: str, folder: Path) -> None:
    from worker.pictures.exports.dataset import export_dataset
    from worker.pictures.exports.row_formats import write_parquet

    with console(stderr=True).status("comparing ...") as status:
        done = export_dataset(url, folder, write_parquet, lambda path: status.update(f"writing {path} ..."))
    removed = f", {done.removed} removed" if done.removed else ""
    echo(f"{done.written} partitions written to {folder}, {done.unchanged} unchanged{removed}")
