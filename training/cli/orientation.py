"""The command ``facet-train orientation``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from models.release import DEFAULT, load_release
from training.data.turned_crops import ORIENTATION_SETS, TurnedCrops, cut_turned, draw_faces
from training.fit.orientation import OrientationOptions, OrientationRun, OrientationScore
from training.releases.orientation import export_orientation

if TYPE_CHECKING:
    from training.data.face_sets import Split

FACES_PER_HELD_OUT = 8  # to learn from, for each face that only judges
_DEFAULTS = OrientationOptions()


def train_orientation(  # noqa: PLR0913 - the options of a command are its arguments
    *,
    data: Annotated[Path, typer.Option("--data", help="Folder of the data sets: celeba10k/, lfw/, utkface/.")],
    cache: Annotated[Path, typer.Option("--cache", help="Folder for crops and checkpoints; outside the repository.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the release to write.")],
    base: Annotated[Path, typer.Option("--base", help="Release that all else comes from.")] = DEFAULT,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="celeba10k, lfw or utkface; may be given again.")
    ] = None,
    faces: Annotated[int, typer.Option(min=1, help="Most images to learn from.")] = 11_000,
    steps: Annotated[int, typer.Option(min=1, help="Batches.")] = _DEFAULTS.steps,
    batch: Annotated[int, typer.Option(min=4, help="Crops of a batch.")] = _DEFAULTS.batch,
    seed: Annotated[int, typer.Option(help="Of images, angles, weights and augmentation.")] = 0,
) -> None:
    """Train the model that decides whether a face is upright in its crop, and write a release with it."""
    chosen = sorted(set(sets or ORIENTATION_SETS))
    detector = load_release(base, heads=frozenset(), identity=False).detector

    def cut(split: Split, count: int) -> TurnedCrops:
        drawn = draw_faces(data, chosen, split, count, seed)
        return TurnedCrops.cat(cut_turned(part, detector, cache / "crops", seed) for part in drawn)

    train, held_out = cut("train", faces), cut("val", max(1, faces // FACES_PER_HELD_OUT))
    options = OrientationOptions(steps=steps, batch=batch, seed=seed)
    run = OrientationRun(train, held_out, cache / "runs" / f"orientation-{seed}", options)
    typer.echo(f"{len(train.patches)} faces, {len(train.crops)} crops of turned images; step {run.step}")
    score = run.run()
    export_orientation(out.name, base, run.model, out, chosen)
    typer.echo(f"{described(score)}; wrote {out}")


def described(score: OrientationScore) -> str:
    """Return a score as a sentence."""
    return (
        f"held-out crops: at the logit {score.threshold:.2f}, which 0.5 % of the upright ones do not reach, "
        f"{score.detected:.1%} of the detector's crops of turned faces pass and {score.drawn:.1%} of drawn ones"
    )


def add_orientation_command(app: typer.Typer) -> None:
    """Add the command to ``facet-train``."""
    example = "Example: facet-train orientation --data data --cache cache --out out/release"
    app.command("orientation", epilog=example)(train_orientation)
