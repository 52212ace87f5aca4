"""``facet sample``: faces for people to label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.output.terminal import echo, typed, utf8_or_none
from worker.config import settings
from worker.errors import UsageError
from worker.storage.database import open_database
from worker.storage.home import make_home


def add_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: facet sample --n 200 --stratify gender,age -o to-label")(sample)


def sample(  # noqa: PLR0913 - the options of a command are its arguments
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, new or empty.")],
    *,
    count: Annotated[int, typer.Option("--n", help="Number of faces.", min=1, max=100_000)] = 200,
    stratify: Annotated[
        str | None,
        typer.Option(
            "--stratify",
            metavar="A,B,...",
            help="Draw as many of each combination of gender, ethnicity, emotion, age (decades), quality (quarters) "
            "and kind.",
            callback=utf8_or_none,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another number draws another sample.")] = 1,
    job: Annotated[int | None, typer.Option("--job", help="Draw only from this job's files.")] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="SQL condition over the views faces and media.", callback=utf8_or_none),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base", help="Address of the folder for Label Studio; default: its local files.")
    ] = None,
) -> None:
    """Draw faces at random for people to label: their crops, a table, and tasks for Label Studio.

    At most one face of each appearance is drawn. `facet agreement` compares the labels with the heads.
    """
    from worker.pictures.labels.folder import DESIGN, Design, write_sample
    from worker.pictures.labels.sampling import SampleRequest, draw_sample, read_labelled_heads
    from worker.storage.crops import CropStore

    config = settings()
    make_home(config.home)
    if (output / DESIGN).exists():
        raise UsageError(f"{output} holds a sample, whose labels would no longer fit; give another folder")
    wanted = tuple(dict.fromkeys(part.strip().lower() for part in (stratify or "").split(",") if part.strip()))
    with open_database(config) as database:
        url = config.reader_database_url or database.url
        drawn = draw_sample(url, SampleRequest(count=count, stratify=wanted, seed=str(seed), job_id=job, where=where))
        faces = {face.face_id: face.stratum for face in drawn.faces}
        design = Design(wanted, read_labelled_heads(url, drawn), faces, drawn.strata)
        missing = write_sample(output, drawn, design, CropStore(config.crops), base_url)
    written = len(drawn.faces) - len(missing)
    strata = f" of {len(drawn.strata):,} strata" if wanted else ""
    echo(f"{written:,} face{'s' * (written != 1)}{strata} written to {output}")
    echo(f"fill in {output / 'labels.csv'}, then: {typed('agreement', str(output))}")
    for face_id, reason in missing[:20]:
        echo(f"face {face_id} is left out: {reason}", err=True)
    if missing:
        raise typer.Exit(1)
