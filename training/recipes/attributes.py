"""Recipes of attributes that are read one by one: balanced, and with regions; see also ``catalogue``."""

from __future__ import annotations

from dataclasses import replace

from models.trunks.regions import RegionSpec
from training.fit.augment import AugmentOptions
from training.fit.balance import UNBALANCED, Balance
from training.recipes.catalogue import ATTRIBUTES, BOTH_MAPS
from training.recipes.joint import JointOptions, RegionSearch
from training.recipes.places import FIRST_FINER_MAP
from training.recipes.recipe import PREPARED_SEARCH, HeadRecipe, Recipe, register

RARE = 0.1  # share of the faces; of CelebA's attributes six are so rare that their faces are shown twice or more
BALANCE = Balance(both_answers=True, rare_below=RARE)

ATTRIBUTES_BALANCED = register(
    Recipe(
        name="attributes-balanced",
        heads=(
            replace(
                ATTRIBUTES,
                fit=replace(ATTRIBUTES.fit, mirror=True, balance=BALANCE, label_patience=2, epochs=12),
            ),
        ),
        summary="attributes of the frozen trunk, faces with and without each weigh alike; each stops by itself",
    )
)
"""The attributes of ``frozen``, for balanced accuracy.

Faces with and without an attribute weigh as much as each other, as in batches that are drawn for this attribute with
as many of either. Faces with a rare attribute are shown several times an epoch, half of them mirrored; features of a
frozen trunk cannot be shifted, the crops of joint recipes are. An attribute stops learning once its own held-out loss
rests.

Source: as ``frozen``; balance and early stopping for each attribute as in a published cascade over the regions of
attributes.
Command: ``facet-train train attributes-balanced --data D --cache C --base out/sface --out R``, with the same base as
``frozen``.
Hours and figures: not measured.
"""


STEPS, FIRST_STEPS = 1600, 400  # of a run of 64 faces a step, and of its response networks alone


def with_regions(*others: str) -> HeadRecipe:
    """Return the head of the attributes that reads their regions, and the pooled maps of some more places."""
    spec = replace(ATTRIBUTES.spec, depths=(FIRST_FINER_MAP, *others), regions=RegionSpec())
    return replace(ATTRIBUTES, spec=spec, regions=RegionSearch(first_steps=FIRST_STEPS))


def on_crops(name: str, summary: str, head: HeadRecipe, balance: Balance) -> Recipe:
    """Return the recipe of a run on crops that are shifted, mirrored and otherwise augmented again each time."""
    fit = replace(head.fit, balance=balance, label_patience=6)
    return Recipe(
        name=name,
        heads=(replace(head, fit=fit),),
        summary=summary,
        joint=JointOptions(
            steps=STEPS,
            batch={"celeba10k": 64},
            searches=(PREPARED_SEARCH,),
            augment=AugmentOptions(uniform_shift=0.05, coarse=0.1, erase=0.0),
            evaluate_every=100,
            patience=10,
        ),
    )


REGIONS = [
    register(on_crops(name, summary, head, balance))
    for name, summary, head, balance in (
        ("regions", "the region of each attribute beside whole maps; balanced", with_regions(*BOTH_MAPS), BALANCE),
        ("regions-unbalanced", "as regions, without balance", with_regions(*BOTH_MAPS), UNBALANCED),
        ("regions-alone", "the region of each attribute alone; balanced", with_regions(), BALANCE),
        ("no-regions-balanced", "as regions, whole maps alone", ATTRIBUTES, BALANCE),
        ("no-regions", "as regions, whole maps alone, without balance", ATTRIBUTES, UNBALANCED),
    )
]
"""A cascade over the regions of attributes, and the rows to compare it with: without regions, without balance.

First only the response networks learn (FIRST_STEPS): each answers high where its attribute is, by the mean of the
greatest and the average response of a map. The places of high response are taken back to rectangles of the crop by
their receptive fields, and averaged over the training faces with the attribute. Then all layers learn together: the
first answers, and those made of each region, of the first answers of all attributes (that of ``Male`` among them)
and, but for ``regions-alone``, of the pooled maps that ``frozen`` reads. The trunk is frozen. Each attribute stops by
itself.

Responses are found on the first map of so many cells, since places of later ones see nearly the whole face: of SFace
31 of 112 pixels behind conv_7, 111 behind conv_12.

Source: a published cascade over the regions that are associated with facial attributes; sizes of the layers, share of
the response that counts (``RegionSearch.threshold``) and the whole maps beside the regions are our choice.
Command: ``facet-train train regions --data D --cache C --base out/sface --out R``, with the same base as ``frozen``,
and so for the other names; ``facet-train regions --release R --data D --cache C --out F`` draws the regions.
Hours: 0.7 of one CPU core for ``regions``, by the times of single steps with bfloat16 tiles: 1.1 s while only the
response networks learn, 1.6 s then. Figures: not measured.
"""
