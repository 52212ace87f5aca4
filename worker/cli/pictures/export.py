"""``facet export``: appearances in the formats of other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output.terminal import console, echo, utf8_or_none
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home

if TYPE_CHECKING:
    from worker.pictures.exports.segments import SegmentSelection

BASE_URL = "https://example.org/facet"


class ExportFormat(StrEnum):
    """Formats of appearances."""

    VTT = "vtt"
    SRT = "srt"
    ASS = "ass"
    EAF = "eaf"
    IIIF = "iiif"
    CSV = "csv"
    XMP = "xmp"
    COCO = "coco"
    LABEL_STUDIO = "label-studio"
    DATA = "data"


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet export vtt --media 12 -o wedding.vtt")(export)


def export(  # noqa: PLR0913 - the options of a command are its arguments
    form: Annotated[
        ExportFormat,
        typer.Argument(
            metavar="FORMAT",
            help="vtt, srt, ass: subtitles; eaf: ELAN; iiif: web annotations; csv: a row each; "
            "xmp: face regions of images; coco, label-studio: faces in images to label; data: all views.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; for several files, and for data, a folder.")
    ] = None,
    *,
    media: Annotated[int | None, typer.Option("--media", help="Write only this file's appearances.")] = None,
    job: Annotated[int | None, typer.Option("--job", help="Write only appearances in this job's files.")] = None,
    person: Annotated[int | None, typer.Option("--person", help="Write only this person's appearances.")] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="SQL condition over the views appearances and media.", callback=utf8_or_none),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base",
            help=f"Base of the addresses in web annotations (default: {BASE_URL}), and of images for Label Studio.",
        ),
    ] = None,
    beside: Annotated[bool, typer.Option("--beside", help="Of xmp: write sidecars beside the images.")] = False,
    embed: Annotated[
        bool,
        typer.Option(
            "--embed", help="Of xmp: write into copies of the JPEG and PNG images; with --beside, into the images."
        ),
    ] = False,
) -> None:
    """Write who appears when, and where in the frame, for other programs: subtitles, annotations, a table, regions."""
    from worker.pictures.exports.segments import SegmentSelection

    config = settings()
    make_home(config.home)
    selection = SegmentSelection(media_id=media, job_id=job, person_id=person, where=where)
    _check(form, output, beside=beside, embed=embed, is_all=selection == SegmentSelection())
    with open_database(config) as database:
        if form is ExportFormat.XMP:
            from worker.cli.pictures.xmp import export_regions

            export_regions(config, database, selection, output, embed=embed)
        elif output is not None:
            url = config.reader_database_url or database.url
            if form is ExportFormat.DATA:
                _export_data(url, output)
            else:
                _export_documents(url, form, selection, output, base_url)


def _check(form: ExportFormat, output: Path | None, *, beside: bool, embed: bool, is_all: bool) -> None:
    """Check options that do not fit each other.

    Raises:
        UsageError: they do not.
    """
    is_xmp = form is ExportFormat.XMP
    if form is ExportFormat.DATA and not is_all:
        raise UsageError("data is all of the archive, expected no --media, --job, --person or --where; leave them out")
    if not is_xmp and (beside or embed):
        raise UsageError(f"--beside and --embed are options of xmp, got {form}; leave them out")
    if beside and output is not None:
        raise UsageError(f"got --beside and --output {output}, expected one of them")
    if not beside and output is None:
        raise UsageError(f"no output is given, expected --output with a file or folder{' or --beside' * is_xmp}")


def _export_documents(
    url: str, form: ExportFormat, selection: SegmentSelection, output: Path, base_url: str | None
) -> None:
    from worker.pictures.exports.registry import document_formats, whole_formats, write_documents, write_one_document
    from worker.pictures.exports.segments import read_segments

    whole = whole_formats(base_url).get(form)
    with read_segments(url, selection) as files:
        if whole is not None:
            count, unit = write_one_document(whole, files, output), whole.item
        else:
            count, unit = write_documents(document_formats(base_url or BASE_URL)[form], files, output), "file"
    echo(f"{count:,} {unit}{'s' * (count != 1)} written to {output}")


def _export_data(url: str, folder: Path) -> None:
    from worker.pictures.exports.dataset import export_dataset
    from worker.pictures.exports.row_formats import write_parquet

    with console(stderr=True).status("comparing ...") as status:
        done = export_dataset(url, folder, write_parquet, lambda path: status.update(f"writing {path} ..."))
    removed = f", {done.removed} removed" if done.removed else ""
    echo(f"{done.written} partitions written to {folder}, {done.unchanged} unchanged{removed}")
