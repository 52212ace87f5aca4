"""The command ``facet-train identity``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from models.inference.precision import resolve_device
from models.manifest import TRUNK_PART, read_manifest
from models.release import DEFAULT
from models.trunks.registry import create_trunk
from training.data.crops import crop_faces
from training.data.face_sets import read_lfw
from training.evaluate.verification import held_back_accuracy, validation_accuracy
from training.fit.descent import OptimiserName, ScheduleName  # noqa: TC001 - Typer reads annotations when it runs
from training.fit.progress import timed
from training.recipes.recipe import PREPARED_SEARCH
from training.releases.export import write_trunk
from training.releases.origin import run_here
from training.train import TrainingContext, load_context
from training.trunk.faces import cut_people, read_people
from training.trunk.losses import Objective  # noqa: TC001 - Typer reads annotations when it runs
from training.trunk.options import PAPER_DEVIATION, IdentityOptions
from training.trunk.run import IdentityRun, embed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from models.trunks.base import Trunk
    from training.evaluate.metrics import Figure
    from training.trunk.faces import NamedFaces


DEFAULTS = IdentityOptions()


def train_identity(  # noqa: PLR0913 - the options of a command are its arguments
    trunk: Annotated[str, typer.Argument(help="A trunk of our own, such as face24 or face24-w0.5-r112.")],
    *,
    data: Annotated[Path, typer.Option("--data", help="Folder of the data sets.")],
    cache: Annotated[Path, typer.Option("--cache", help="Folder for crops; outside the repository.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for checkpoint, log and release; goes on where it stopped.")
    ],
    objective: Annotated[Objective, typer.Option(help="softmax, arcface, or distil from --teacher.")] = "softmax",
    teacher: Annotated[Path, typer.Option(help="Release whose embeddings distillation follows.")] = DEFAULT,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="celeba10k, lfw or utkface; may be given again.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Batches, at most.")] = DEFAULTS.steps,
    batch: Annotated[int, typer.Option(help="Faces of a batch.")] = DEFAULTS.batch,
    optimiser: Annotated[OptimiserName, typer.Option(help="sgd (momentum 0.9), adam or adamw.")] = DEFAULTS.optimiser,
    learning_rate: Annotated[float, typer.Option(help="First one, or the peak of a cosine.")] = DEFAULTS.learning_rate,
    schedule: Annotated[
        ScheduleName,
        typer.Option(help="quarters: divided by 4 every 10,000 steps; cosine: a rise, then to zero; constant."),
    ] = DEFAULTS.schedule,
    weight_decay: Annotated[float, typer.Option(help="Of all weights.")] = DEFAULTS.weight_decay,
    normal_start: Annotated[
        bool, typer.Option("--normal-start", help="Start all layers from N(0, 0.01), as in the paper.")
    ] = False,
    evaluate_every: Annotated[
        int, typer.Option(help="Steps between two evaluations on held-out faces; the best weights are kept.")
    ] = DEFAULTS.evaluate_every,
    patience: Annotated[int, typer.Option(help="Evaluations without a better score until it stops.")] = (
        DEFAULTS.patience
    ),
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
) -> None:
    """Train a trunk on identities or from a teacher, and write a release without branches."""
    options = IdentityOptions(
        objective=objective,
        steps=steps,
        batch=batch,
        optimiser=optimiser,
        learning_rate=learning_rate,
        schedule=schedule,
        weight_decay=weight_decay,
        start_deviation=PAPER_DEVIATION if normal_start else None,
        evaluate_every=evaluate_every,
        patience=patience,
        seed=seed,
    )
    context = load_context(teacher, data, cache, smallest_search=PREPARED_SEARCH)
    student = new_trunk(trunk, seed)
    sources = read_people(data, sets or ("celeba10k", "lfw"))
    faces = cut_people(sources, context.detector, cache / "crops", student.layout, options.least_images)
    run = IdentityRun(
        student, faces, out, options, teacher_embeddings(context, sources) if objective == "distil" else None
    )
    learnt, held = len(run.rows.learnt), len(run.rows.held_out)
    typer.echo(f"{learnt} faces to learn, {held} held out, {faces.people} people")
    typer.echo(f"step {run.step}: {_accuracy_text(context, student)}")
    with timed(out, resumes=True) as seconds:
        run.run(verify=validation_of(context, student))
        recipe = f"distil from {read_manifest(teacher).name}" if objective == "distil" else objective
        parts = {source.faces.name: (TRUNK_PART,) for source in sources}
        made = run_here(recipe, "N(0, 0.01)" if normal_start else "random weights", parts, seconds())
    write_trunk(student, trunk, teacher, out, made)
    typer.echo(f"step {run.step}, best {run.best.step}: {_accuracy_text(context, student)}; wrote {out}")


def new_trunk(name: str, seed: int) -> Trunk:
    """Return a trunk with random weights on the device that trains fastest."""
    import torch  # noqa: PLC0415 - for its seed only

    torch.manual_seed(seed)
    return create_trunk(name).to(resolve_device()).to(memory_format=torch.channels_last)


def teacher_embeddings(context: TrainingContext, sources: list[NamedFaces]) -> NDArray[np.float32]:
    """Compute the teacher's embeddings of all faces, on crops that are aligned for the teacher."""
    crops = cut_people(sources, context.detector, context.cache / "crops", context.trunk.layout)
    return embed(context.trunk, crops)


def lfw_accuracy(context: TrainingContext, trunk: Trunk) -> Figure:
    """Measure verification on the people of LFW that are held back."""
    faces, pairs = read_lfw(context.data)
    crops = crop_faces(faces, context.detector, context.cache / "crops", trunk.layout)
    return held_back_accuracy(embed(trunk, crops.pixels), pairs)


def validation_of(context: TrainingContext, trunk: Trunk) -> Callable[[Trunk], float] | None:
    """Return the function that measures a trunk on fold 8 of LFW, whose people are not learnt; None without LFW."""
    if not has_lfw(context):
        return None
    faces, pairs = read_lfw(context.data)
    crops = crop_faces(faces, context.detector, context.cache / "crops", trunk.layout)
    return lambda learning: validation_accuracy(lambda rows: embed(learning, crops.pixels[rows]), pairs).value


def has_lfw(context: TrainingContext) -> bool:
    """Return whether the pairs of LFW are among the data sets."""
    return (context.data / "lfw" / "pairs.txt").is_file()


def _accuracy_text(context: TrainingContext, trunk: Trunk) -> str:
    if not has_lfw(context):
        return "LFW is not there to verify on"
    found = lfw_accuracy(context, trunk)
    return f"LFW, folds 9 and 10: {found.value:.1%} ({found.low:.1%}-{found.high:.1%}) of {found.count} pairs"


def add_identity_command(app: typer.Typer) -> None:
    """Add the command to ``facet-train``."""
    example = (
        "Example: facet-train identity face24-w0.5-r112 --data data --cache cache --out out/face24 --objective arcface"
    )
    app.command("identity", epilog=example)(train_identity)
