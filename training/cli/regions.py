"""The command ``facet-train regions``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads annotations when it runs
from typing import Annotated

import typer

from models.manifest import read_manifest
from training.cli.options import CacheOption, DataOption  # noqa: TC001 - Typer reads annotations when it runs
from training.errors import unknown_names
from training.fit.targets import READERS
from training.recipes.recipe import PREPARED_SEARCH
from training.releases.export import branches_of
from training.releases.region_maps import labelled_rows, region_maps, task_with_regions
from training.train import load_context

SHOWN = 12  # labels of a figure


def draw_regions(
    *,
    data: DataOption,
    cache: CacheOption,
    release: Annotated[Path, typer.Option("--release", help="Release with a branch of the recipe regions.")],
    out: Annotated[Path, typer.Option("--out", help="PNG file to draw.")],
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Draw this label; may be given again. The smallest twelve.")
    ] = None,
    split: Annotated[str, typer.Option(help="Rows of CelebA that are averaged.")] = "test",
) -> None:
    """Draw where a release finds attributes: mean responses and regions, over the mean of all aligned faces."""
    from training.evaluate.report import plots, region_figure  # noqa: PLC0415 - matplotlib is an extra

    manifest = read_manifest(release)
    (branch,) = branches_of(release, [task_with_regions(manifest)])
    if unknown := sorted(set(label or ()) - set(branch.spec.labels)):
        raise unknown_names("labels", unknown, branch.spec.labels)
    context = load_context(release, data, cache, smallest_search=PREPARED_SEARCH)
    faces = READERS["celeba10k"](data)
    rows, soft = labelled_rows(branch.spec.task, faces, len(branch.spec.labels), split)
    found = region_maps(context.trunk, branch.eval(), context.crops(faces).pixels[rows], soft)
    shown = [branch.spec.labels.index(name) for name in label or found.smallest(SHOWN)]
    panels = [
        region_figure.RegionPanel(found.labels[number], found.responses[number], found.boxes[number])
        for number in shown
    ]
    figure = region_figure.region_figure(found.face, panels, found.field.centre, found.field.step)
    typer.echo(found.table())
    typer.echo(f"drew {plots.save(figure, out)}")


def add_regions_command(app: typer.Typer) -> None:
    """Add the command to ``facet-train``."""
    example = "Example: facet-train regions --release out/regions --data data --cache cache --out regions.png"
    app.command("regions", epilog=example)(draw_regions)
