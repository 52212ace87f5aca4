"""A recipe that goes on from a release, so that it answers right on what archives have; see also ``catalogue``."""

from __future__ import annotations

from dataclasses import replace

from training.fit.augment import AugmentOptions
from training.fit.balance import Balance
from training.recipes.catalogue import AGE, ATTRIBUTES, BOTH_MAPS, EMOTION, EMOTION7, ETHNICITY, GENDER, tuned
from training.recipes.joint import BaseTeaching, JointOptions, TrunkTuning
from training.recipes.places import FINER_MAP, LAST_MAP
from training.recipes.recipe import HeadRecipe, Recipe, register


def going_on(head: HeadRecipe, *depths: str, balance: Balance) -> HeadRecipe:
    """Return a head whose branch has the shape of that of ``default``, and learns a little more."""
    found = tuned(head, *depths)
    fit = replace(found.fit, learning_rate=3e-4, mixup=0.0, average=0.99, balance=balance)
    return replace(found, fit=fit, dropout=0.3)


ROBUST = register(
    Recipe(
        name="robust",
        heads=(
            going_on(GENDER, LAST_MAP, balance=Balance(adjust=1.0, within=("ethnicity", "age"))),
            going_on(AGE, LAST_MAP, balance=Balance()),
            going_on(ETHNICITY, LAST_MAP, balance=Balance()),
            # of clean and degraded faces together, those without a majority of votes among them
            replace(going_on(EMOTION, *BOTH_MAPS, balance=Balance(adjust=0.5)), answers_accuracy=0.84),
            going_on(EMOTION7, *BOTH_MAPS, balance=Balance(adjust=0.5)),
            going_on(ATTRIBUTES, *BOTH_MAPS, balance=Balance()),
        ),
        summary="goes on from the shipped release on degraded crops, rare emotions and groups balanced",
        joint=JointOptions(
            steps=500,
            batch={"utkface": 64, "fer2013": 64, "celeba10k": 32},
            searches=(None,),
            augment=AugmentOptions(coarse=0.0, grey=0.0, erase=0.0, brightness=0.1, contrast=0.1),
            degraded=0.6,
            evaluate_every=125,
            trunk=TrunkTuning(
                name="robust",
                learning_rate=1e-4,
                first=f"1 before {FINER_MAP}",
                held_by={"celeba10k": 16, "utkface": 16},
            ),
            base=BaseTeaching(taught=0.5, elsewhere=0.5),
        ),
    )
)
"""The shipped release, tuned on crops as archives have them: small, blurred, grainy, faded, dark, compressed.

Six of ten crops are degraded (training.data.degrade). Half of the targets are the answers of the base for the crop
before that, which also teach each branch on the faces of the other sets; embeddings are held to those before it, too.
Layers before the last but one of 14 x 14 cells stay as they are, since two CPU cores would take hours for them.
Emotions are learnt as if rare ones were less rare, genders as if each were as frequent as the other among the faces of
an ethnicity and an age band.

Source: logit adjustment after Menon et al. 2021; consistent teaching after Beyer et al. 2022.
Command: ``facet-train train robust --data D --cache C --base models/releases/default --out R``
Hours and figures: not measured in this form; docs/measured/tried.md has those without the faces of other sets.
"""
