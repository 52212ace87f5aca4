"""The command ``facet-train compare``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from models.release import load_release
from training.errors import RecipeError
from training.evaluate.evaluate import EvaluateOptions, Evaluation, evaluate
from training.evaluate.report.compare import Comparison, compare, comparison_table, worse_text

if TYPE_CHECKING:
    from models.manifest import Verdict


def compare_releases(
    before: Annotated[Path, typer.Argument(help="The release in use, or the JSON that evaluate --json wrote of it.")],
    after: Annotated[Path, typer.Argument(help="The release that shall replace it, or its JSON.")],
    *,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the data sets, to evaluate releases.")] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Keep aligned crops in this folder.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every group.")] = False,
    allow_worse: Annotated[bool, typer.Option("--allow-worse", help="Report only; the exit status is 0.")] = False,
) -> None:
    """Refuse a release that serves any group of people worse than the one before it (exit status 1)."""
    found = compare(_evaluation(before, data, cache), _evaluation(after, data, cache))
    typer.echo(comparison_table(found, every=every))
    typer.echo(verdict(found))
    if found.worse and not allow_worse:
        raise typer.Exit(1)


def verdict(found: Comparison) -> str:
    """Describe the groups that got worse."""
    if not found.worse:
        return f"{found.after} is worse than {found.before} for no group, within the intervals"
    lines = [f"  {worse_text(one)}" for one in found.worse]
    return "\n".join([f"{found.after} is worse than {found.before}:", *lines])


def verdict_text(base: Path, verdict: Verdict | None) -> str:
    """Describe the verdict that was written into a release."""
    if verdict is None:
        return f"no verdict: it could not be compared with {base}; `facet releases activate` will refuse it"
    if verdict.worse:
        return "\n".join([f"verdict: worse than {verdict.base} for {len(verdict.worse)} groups", *verdict.worse])
    if not verdict.judged:
        return f"no verdict: too few test rows in {', '.join(verdict.data) or 'the data'} to judge a group"
    return f"verdict: worse than {verdict.base} in none of {verdict.judged} comparisons"


def _evaluation(path: Path, data: Path | None, cache: Path | None) -> Evaluation:
    """Read an evaluation, or evaluate a release now."""
    if path.is_file():
        return Evaluation.from_json(path.read_text())
    if data is None:
        raise RecipeError(f"{path} is no file of facet-train evaluate --json; to evaluate a release, add --data DIR")
    return evaluate(load_release(path), data, EvaluateOptions(cache=cache))


def add_compare_command(app: typer.Typer) -> None:
    """Add the command to ``facet-train``."""
    app.command("compare", epilog="Example: facet-train compare before.json after.json")(compare_releases)
