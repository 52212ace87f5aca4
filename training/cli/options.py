"""Options that several commands of ``facet-train`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.manifest import FILE
from training.errors import RecipeError

DataOption = Annotated[Path, typer.Option("--data", help="Folder of the data sets: utkface/, fer2013/, ...")]
CacheOption = Annotated[Path, typer.Option("--cache", help="Folder for crops and features; outside the repository.")]
ReleaseOption = Annotated[Path, typer.Option("--release", help="Folder of a release.")]
AnyReleaseOption = Annotated[Path | None, typer.Option("--release", help="Folder of a release; the shipped one.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the release to write.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the release that --out holds already.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


def refuse_existing(out: Path, *, overwrite: bool) -> None:
    """Refuse to write into the folder of another release, before hours of training.

    Raises:
        RecipeError: there is a release, and it is not to be replaced.
    """
    if not overwrite and (out / FILE).exists():
        raise RecipeError(
            f"{out} holds a release already, expected a new folder; name another --out, or add --overwrite"
        )
