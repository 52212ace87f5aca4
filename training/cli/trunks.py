"""The commands of ``facet-train`` about trunks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path  # noqa: TC003 - Typer reads annotations when it runs
from typing import Annotated

import typer

from models.release import DEFAULT
from training.cli.options import AnyReleaseOption, JsonOption, OutOption  # noqa: TC001 - Typer reads annotations when it runs
from training.errors import RecipeError
from training.releases.describe import describe_release, describe_trunk
from training.releases.import_trunk import import_trunk
from training.releases.speed import SpeedOptions, measure_speed

OPTIONS = SpeedOptions()


def add_trunk_commands(app: typer.Typer) -> None:
    """Add the commands to ``facet-train``."""
    example = "Example: facet-train convert-trunk dlib29 face_recognition_models-0.3.0.tar.gz --out out/dlib29"
    app.command("convert-trunk", epilog=example)(convert_trunk)
    app.command("describe", epilog="Example: facet-train describe --trunk face24-w0.5-r112")(describe)
    app.command("bench", epilog="Example: facet-train bench --batch 64")(measure_release_speed)


def convert_trunk(
    name: Annotated[str, typer.Argument(help="Such as dlib29, sface, efficientnet_lite0 or resnet18-r112.")],
    source: Annotated[
        Path | None, typer.Argument(help="The published package, its file, or torchvision's weights file.")
    ] = None,
    *,
    out: OutOption,
    base: Annotated[Path, typer.Option("--base", help="Release whose detector and policies are taken.")] = DEFAULT,
    random: Annotated[bool, typer.Option("--random", help="Random weights instead of published ones.")] = False,
    seed: Annotated[int, typer.Option(help="Of random weights.")] = 0,
) -> None:
    """Turn a published trunk, or random weights, into a release without branches, on which branches can be trained."""
    if random == (source is not None):
        found = "both" if random else "neither"
        raise RecipeError(f"got {found} of a source and --random, expected one of them")
    manifest = import_trunk(name, source, base, out, seed)
    typer.echo(f"wrote {out}: trunk {manifest.trunk}, crops of {manifest.layout.side} pixels")


def describe(
    *,
    release: AnyReleaseOption = None,
    trunk: Annotated[str | None, typer.Option(help="A trunk instead of a release, such as dlib29.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show trunk and branches with their depths, parameters and costs, and the cost of a face with heads off."""
    if release and trunk:
        raise RecipeError("got --release and --trunk, expected one of them: a release names its trunk")
    found = describe_trunk(trunk) if trunk else describe_release(release or DEFAULT)
    typer.echo(json.dumps(found.plain(), indent=2) if as_json else found.table())


def measure_release_speed(
    *,
    release: AnyReleaseOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Faces in a call.")] = OPTIONS.batch,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements, of which the best counts.")] = OPTIONS.rounds,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = OPTIONS.device,
    as_json: JsonOption = False,
) -> None:
    """Measure the speed of a release: identity alone, all heads together, and the machine's matrix peak."""
    found = measure_speed(release or DEFAULT, SpeedOptions(batch=batch, rounds=rounds, device=device))
    typer.echo(json.dumps(dataclasses.asdict(found), indent=2) if as_json else "\n".join(found.lines))
