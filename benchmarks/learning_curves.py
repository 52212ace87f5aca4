"""The gain of more training faces: each branch is trained on an eighth, a quarter, half and all of its training faces.

    .venv/bin/python benchmarks/learning_curves.py DATA CACHE [--recipe default] [--head gender]

CACHE is that of ``facet-train train``, whose crops and frozen features are read, or made. Prints the score on the
validation split (which training does not see), by age group as well, as the table of docs/measured/training.md: a score
that still grows from half to all wants data, one that does not wants other features or better labels.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.readings import interpret
from models.release import DEFAULT
from training.fit.fit import Examples, fit
from training.fit.targets import READERS, labelled, score, targets
from training.recipes.recipe import find
from training.train import load_context, logits_of, new_branch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.branches import BranchSpec
    from training.recipes.recipe import HeadRecipe
    from training.train import TrainingContext

SHARES = (0.125, 0.25, 0.5, 1.0)
AGES = ((0, 3), (3, 10), (10, 18), (18, 50), (50, 117))


def errors(spec: BranchSpec, logits: object, soft: object) -> NDArray[np.float32]:
    """Return the error of each face: wrong or not, or years."""
    found = interpret(spec, logits)
    if found.value is not None:
        years = soft.numpy() @ np.array([float(label) for label in spec.labels])
        return np.abs(found.value.numpy() - years).astype(np.float32)
    return (found.probabilities.numpy().argmax(1) != soft.numpy().argmax(1)).astype(np.float32)


def curve(recipe: HeadRecipe, context: TrainingContext) -> None:
    """Train one branch on growing shares and print a row for each."""
    faces = READERS[recipe.data](context.data)
    found = context.features(faces, recipe.taps(), mirror=recipe.fit.mirror)
    features = {tap.depth: values for tap, values in found.items()}
    soft = targets(recipe.spec.task, faces, len(recipe.spec.labels))
    train, val = (labelled(recipe.spec.task, soft, np.flatnonzero(faces.split == split)) for split in ("train", "val"))
    order = np.random.default_rng(0).permutation(train)
    ages = getattr(faces, "age", None)
    for share in SHARES:
        rows = np.sort(order[: round(share * len(order))])
        options = replace(recipe.fit, epochs=round(recipe.fit.epochs / share**0.5))  # few faces may be seen more often
        head = new_branch(recipe, context.trunk, features, rows, 0)
        fit(head, Examples(features, soft, rows), score(recipe.spec), options)
        branch = head.shipped()
        wrong = errors(recipe.spec, logits_of(branch, features, val), soft[val])
        by_age = [] if ages is None else [wrong[(ages[val] >= low) & (ages[val] < high)].mean() for low, high in AGES]
        cells = " | ".join(f"{value:.4f}" for value in (wrong.mean(), *by_age))
        print(f"| {recipe.spec.task} | {len(rows):,} | {cells} |", flush=True)


def main() -> None:
    """Print the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--head", action="append")
    arguments = parser.parse_args()
    recipe = find(arguments.recipe)
    ages = " | ".join(f"{low}-{high - 1} years" for low, high in AGES)
    print(f"| branch | faces | error | {ages} |\n|---|---|---|" + "---|" * len(AGES))
    for head in recipe.heads:
        if not arguments.head or head.spec.task in arguments.head:
            curve(head, load_context(DEFAULT, arguments.data, arguments.cache, smallest_search=head.smallest_search))


if __name__ == "__main__":
    main()
