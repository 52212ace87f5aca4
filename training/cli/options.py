"""Options that several commands of ``facet-train`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[Path, typer.Option("--data", help="Folder of the data sets: utkface/, fer2013/, ...")]
CacheOption = Annotated[Path, typer.Option("--cache", help="Folder for crops and features; outside the repository.")]
ReleaseOption = Annotated[Path, typer.Option("--release", help="Folder of a release.")]
AnyReleaseOption = Annotated[Path | None, typer.Option("--release", help="Folder of a release; the shipped one.")]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the release to write.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
