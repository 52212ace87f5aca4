"""The command ``facet-train calibrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from training.calibrate import CalibrationOptions, recalibrate
from training.cli.compare import verdict_text
from training.cli.options import CacheOption, DataOption, OutOption, OverwriteOption, ReleaseOption, refuse_existing
from training.errors import RecipeError
from training.recipes.recipe import find
from training.releases.export import export
from training.releases.verdict import add_verdict
from training.train import load_context


def calibrate(  # noqa: PLR0913 - the options of a command are its arguments
    recipe: Annotated[str, typer.Argument(help="Recipe whose heads name the data sets and the accuracy of answers.")],
    release: ReleaseOption,
    *,
    data: DataOption,
    cache: CacheOption,
    out: OutOption,
    head: Annotated[list[str] | None, typer.Option("--head", help="Only this head; may be given again.")] = None,
    split: Annotated[str, typer.Option(help="Rows that calibrate, from which the release never learnt.")] = "val",
    share: Annotated[float, typer.Option(help="Of these rows, chosen by a hash of their names.")] = 1.0,
    degraded: Annotated[float, typer.Option(help="Share of the faces that are shown degraded.")] = 0.5,
    power: Annotated[
        list[str] | None,
        typer.Option("--power", help="HEAD=P: divide its answers by the shares of its training rows to this power."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Choose temperatures, thresholds and abstention of a release anew, and write it as another one."""
    refuse_existing(out, overwrite=overwrite)
    options = CalibrationOptions(
        split=split, share=share, degraded=degraded, powers=dict(_power(choice) for choice in power or ())
    )
    context = load_context(release, data, cache, smallest_search=None)
    chosen = find(recipe).only(*head) if head else find(recipe)
    branches = recalibrate(chosen, context, options)
    export(out.name, release, branches, out)
    for branch in branches:
        spec = branch.spec
        abstain = "" if spec.abstain is None else f", unknown below {spec.abstain:.3f}"
        typer.echo(f"{spec.task}: temperature {spec.temperature:.3f}{abstain}")
    typer.echo(f"wrote {out}")
    typer.echo(verdict_text(release, add_verdict(release, out, data, cache)))


def _power(choice: str) -> tuple[str, float]:
    task, _, power = choice.partition("=")
    try:
        return task, float(power)
    except ValueError as err:
        raise RecipeError(f"--power got {choice!r}, expected HEAD=NUMBER, such as emotion=0.25") from err


def add_calibrate_command(app: typer.Typer) -> None:
    """Add the command to ``facet-train``."""
    example = "Example: facet-train calibrate default --release out/new --data data --cache cache --out out/calibrated"
    app.command("calibrate", epilog=example)(calibrate)
