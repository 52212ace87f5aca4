"""The command ``facet-train systems``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads annotations when it runs
from typing import Annotated

import typer

from models.manifest import read_manifest
from training.errors import DataError
from training.evaluate.evaluate import Evaluation
from training.evaluate.report.systems import Speeds, SystemRow, check_reference, systems_text
from training.evaluate.report.tables import fill_page
from training.recipes.published_systems import SYSTEMS, find_system
from training.releases.speed import SpeedOptions, measure_by_turns

SPEED_FILE = "speed.json"
SPEED_OPTIONS = SpeedOptions()


def compare_systems(  # noqa: PLR0913 - the options of a command are its arguments
    folder: Annotated[Path, typer.Argument(help="Folder with one evaluation a system, and speed.json.")],
    *,
    add: Annotated[
        list[Path] | None,
        typer.Option(
            "--add",
            help="Take this file of evaluate --json into the folder, named after its recipe; may be given again.",
        ),
    ] = None,
    measure: Annotated[
        list[Path] | None,
        typer.Option("--measure", help="Measure the speed of this release by turns with others; may be given again."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Faces in a call, with --measure.")] = SPEED_OPTIONS.batch,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each release, with --measure.")] = SPEED_OPTIONS.rounds,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N, with --measure.")] = SPEED_OPTIONS.device,
    out: Annotated[
        Path | None, typer.Option("--out", help="Page whose table is renewed between the lines for figures.")
    ] = None,
) -> None:
    """Write one table of all systems in a folder: cost, speed, training and figures, beside those of their authors."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in add or ():
        find_system(path.stem)
        (folder / path.name).write_text(_evaluation(path).brief().to_json() + "\n")
    if measure:
        check_reference([read_manifest(path).name for path in measure])
        speeds = measure_by_turns(measure, SpeedOptions(batch=batch, rounds=rounds, device=device))
        kept = Speeds((*read_speeds(folder).runs, speeds))
        (folder / SPEED_FILE).write_text(kept.to_json())
    text = systems_text(read_rows_of_systems(folder), read_speeds(folder))
    typer.echo(text)
    if out:
        out.write_text(fill_page(out.read_text(), f"{text}\n"))


def read_rows_of_systems(folder: Path) -> list[SystemRow]:
    """Read the evaluations of a folder, systems in the order of their registry, then by name.

    Raises:
        DataError: there is none, or a file is no evaluation.
        RecipeError: a file has not the name of a recipe.
    """
    paths = [path for path in folder.glob("*.json") if path.name != SPEED_FILE]
    if not paths:
        raise DataError(f"{folder} holds no evaluation; add files of facet-train evaluate --json with --add")
    order = list(SYSTEMS)
    rows = [SystemRow(path.stem, find_system(path.stem), _evaluation(path)) for path in paths]
    return sorted(rows, key=lambda r: (order.index(r.system.name) if r.system.name in order else len(order), r.name))


def read_speeds(folder: Path) -> Speeds:
    """Read the speeds of a folder; no runs where none were measured."""
    path = folder / SPEED_FILE
    return Speeds.from_json(path.read_text()) if path.is_file() else Speeds(())


def _evaluation(path: Path) -> Evaluation:
    try:
        return Evaluation.from_json(path.read_text())
    except OSError as err:
        raise DataError(f"{path} cannot be read ({err.strerror}); expected a file of evaluate --json") from err
    except DataError as err:
        raise DataError(f"{path}: {err}") from err


def add_systems_command(app: typer.Typer) -> None:
    """Add the command to ``facet-train``."""
    example = "Example: facet-train systems docs/systems --add out/frozen.json --out docs/systems.md"
    app.command("systems", epilog=example)(compare_systems)
