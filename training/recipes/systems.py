"""Recipes of systems that others published, with the data sets and the trunk at hand; see also ``catalogue``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.trunks.base import EMBEDDING_DEPTH
from training.data.face_sets import GENDERS, RACES
from training.data.published_sets import AGE_RANGE_LABELS
from training.fit.augment import AugmentOptions
from training.recipes.catalogue import AGE, ETHNICITY, GENDER
from training.recipes.joint import JointOptions
from training.recipes.places import LAST_MAP
from training.recipes.recipe import HeadRecipe, Recipe, register

if TYPE_CHECKING:
    from models.branches import Routing
    from training.fit.losses import LossName

SHARED_WIDTHS, OWN_WIDTHS = (512, 256), (128,)  # of the layers that three branches share, and of those of each
LEAK = 0.01  # slope of the leaky rectifiers; that of PyTorch, since the paper gives none

# By name of a row: the loss of ages, and the spread of their targets in years.
AGE_TARGETS: dict[str, tuple[LossName, float]] = {
    "onehot": ("cross_entropy", 0.0),
    "gaussian": ("cross_entropy", 2.5),
    "regression": ("years", 2.5),
}
PLACES = {"map": LAST_MAP, "embedding": EMBEDDING_DEPTH}


def sharing(head: HeadRecipe, depth: str) -> HeadRecipe:
    """Return a head that reads a depth by way of two shared layers and one of its own."""
    spec = replace(
        head.spec, depths=(depth,), pool=3, hidden=SHARED_WIDTHS + OWN_WIDTHS, shared=len(SHARED_WIDTHS), leak=LEAK
    )
    fit = replace(head.fit, mixup=0.0, mirror=True)
    return replace(head, spec=spec, fit=fit, dropout=0.3, refit=False, smallest_search=None)


def shared_head(target: str, place: str) -> Recipe:
    """Return the recipe of three branches with shared layers.

    Args:
        target: key of AGE_TARGETS.
        place: key of PLACES.
    """
    gender, ethnicity, age = (sharing(head, PLACES[place]) for head in (GENDER, ETHNICITY, AGE))
    loss, spread = AGE_TARGETS[target]
    age = replace(age, fit=replace(age.fit, loss=loss), spread_years=spread)
    return Recipe(
        name=f"shared-{target}-{place}",
        heads=(gender, ethnicity, age),
        summary=f"two shared layers behind the {place}, then an MLP a task; ages: {target}",
        joint=JointOptions(
            steps=2000,
            batch={"utkface": 128},
            searches=(None,),
            augment=AugmentOptions(uniform_shift=0.05, coarse=0.1, erase=0.0),
            evaluate_every=100,
            patience=6,
        ),
    )


SHARED = {(target, place): register(shared_head(target, place)) for target in AGE_TARGETS for place in PLACES}
"""A shared head for three tasks: the trunk is frozen, two fully connected layers with leaky rectifiers are shared, and
gender, ethnicity and age have a layer and an output of their own. Losses weigh alike; ages are the mean of 117 classes
(``onehot``, ``gaussian``), or one number (``regression``).

Source: a published system for UTKFace with a shared head on a face recognition trunk; the widths are our choice.
Command: ``facet-train train shared-gaussian-map --data D --cache C --base out/sface --out R``, with the same base as
``frozen``, and so for ``onehot`` and ``regression``, ``map`` and ``embedding``; with ``--head age`` the same network
for one task alone.
Hours and figures: not measured. To beat: RMSE of the age 6.85 years, gender 94.84 %, ethnicity 87.97 %.
"""


def by_gender(head: HeadRecipe, routing: Routing) -> HeadRecipe:
    """Return a head with layers for men and layers for women, behind a decision between them."""
    spec = replace(head.spec, experts=GENDERS, routing=routing)
    return replace(head, spec=spec, expert_task="gender", refit=False)


def fusion(routing: Routing) -> Recipe:
    """Return the recipe of gender-specific branches."""
    gender = replace(GENDER, refit=False)
    return Recipe(
        name=f"fusion-{routing}",
        heads=(gender, by_gender(AGE, routing), by_gender(ETHNICITY, routing)),
        summary=f"age and ethnicity by layers for men and for women, {routing} routing, on the frozen trunk",
    )


FUSION = [register(fusion("hard")), register(fusion("weighted"))]
"""Gender-specific fusion: a classifier of gender, then classifiers of age and ethnicity for men and for women.

Each of these learns from the training faces of its gender, which are mirrored and mixed until an epoch has as many as
there are in all. ``hard`` takes the answer of the likelier gender, as published; ``weighted`` both, by probability.

Source: a published system of gender-specific classifiers; features of the frozen trunk as in ``frozen``, which is the
original to compare with.
Command: ``facet-train train fusion-hard --data D --cache C --base out/sface --out R``, with the same base as
``frozen``, and ``fusion-weighted``.
Hours: 0.16 on two CPU cores with bfloat16 tiles, of which 0.11 for features; 0.05 once these are kept.
Found on the test rows, hard and weighted against ``frozen``: ethnicity 88.3 and 88.5 against 88.9 %, age 4.56 and 4.54
against 4.56 years (root mean square 6.48 and 6.47 against 6.59). No difference is outside of the intervals.
"""

_FAIRFACE_GENDER, _FAIRFACE_AGE = (replace(head, data="fairface", refit=False) for head in (GENDER, AGE))


def classes_of_fairface(task: str, labels: tuple[str, ...]) -> HeadRecipe:
    """Return a head for classes that only FairFace labels; it answers always."""
    spec = replace(ETHNICITY.spec, task=task, labels=labels)
    return replace(ETHNICITY, spec=spec, data="fairface", answers_accuracy=None, most_false=None)


FAIRFACE = register(
    Recipe(
        name="fairface",
        heads=(
            _FAIRFACE_GENDER,
            _FAIRFACE_AGE,
            classes_of_fairface("ethnicity7", RACES),
            classes_of_fairface("age_range", AGE_RANGE_LABELS),
        ),
        summary="gender, age, seven races and nine age ranges of FairFace on the frozen trunk",
    )
)
"""FairFace's labels: gender, seven races, nine ranges of ages, and from these ranges a distribution over years.

Source: Karkkainen and Joo 2021, 'FairFace'; branches as ``frozen``.
Command: ``facet-train train fairface --data D --cache C --base out/sface --out R``, with FairFace in ``D/fairface``.
Hours and figures: not measured.
"""
