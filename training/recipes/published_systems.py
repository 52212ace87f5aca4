"""The systems whose rows stand side by side: publications of the recipes, and the figures that their authors print."""

from __future__ import annotations

from dataclasses import replace

from models.trunks.registry import list_trunks
from training.errors import unknown_names
from training.evaluate.report.systems import System
from training.recipes.recipe import RECIPES
from training.recipes.systems import AGE_TARGETS, PLACES

_DEPTHS = "a paper of 2016: an identity network that attributes leave at depths of their own"
_SHARED = "a published shared head for UTKFace on a face recognition trunk"
_REGIONS = "a published cascade over the regions of attributes"
_FUSION = "a published fusion of gender-specific classifiers"

# Printed at the operating point of 1 % false labels, all labels together.
_DEPTHS_PRINTED = {"ethnicity: true": 71.97, "ethnicity: false": 1.03, "ethnicity: none": 0.44}
_SHARED_PRINTED = {"gender": 94.84, "ethnicity": 87.97, "age RMSE": 6.85}

SYSTEMS = {
    system.name: system
    for system in (
        System(
            name="default",
            source=f"this program, after {_DEPTHS}",
            printed=_DEPTHS_PRINTED,
            start="sface-2021dec, published",
            hours=0.4,
            machine="NVIDIA H100",
        ),
        System(name="frozen", source=f"this program, after {_DEPTHS}", printed=_DEPTHS_PRINTED),
        System(name="two-depths", source="this program"),
        System(name="relearnt", source=_DEPTHS, printed=_DEPTHS_PRINTED),
        *(
            System(name=f"shared-{target}-{place}", source=_SHARED, printed=_SHARED_PRINTED)
            for target in AGE_TARGETS
            for place in PLACES
        ),
        System(name="fusion-hard", source=_FUSION),
        System(name="fusion-weighted", source=f"{_FUSION}, with both answers weighted"),
        System(name="attributes-balanced", source=f"{_REGIONS}: its balance alone"),
        System(name="backbone", source="published comparisons of backbones with softmax layers"),
        System(name="mobile-attributes", source="published attributes with MobileNetV1"),
        System(name="classifier-attributes", source="published attributes with ResNet-18"),
        System(name="regions", source=f"{_REGIONS}, with whole maps"),
        System(name="regions-alone", source=_REGIONS),
        System(name="regions-unbalanced", source=f"{_REGIONS}, with whole maps, without balance"),
        System(name="fairface", source="Karkkainen and Joo 2021, 'FairFace'"),
    )
}
"""By name of the recipe. Figures of publications that are not known here are left out."""


# By family of a trunk: publications of trunks that have a row without any branch.
TRUNK_SOURCES = {
    "face24": _DEPTHS,
    "sface": "Zhong et al. 2021, arXiv:2205.12010",
    "dlib29": "King 2017, dlib",
}


def find_system(name: str) -> System:
    """Return the system of a row.

    Args:
        name: of a recipe, of the family of a trunk for a release without branches, or NAME@DETAIL for one of several
            releases.

    Raises:
        RecipeError: there is no such recipe or trunk.
    """
    found = name.partition("@")[0]
    sources = dict.fromkeys(list_trunks(), "a published architecture") | TRUNK_SOURCES
    sources |= {each: recipe.summary for each, recipe in RECIPES.items()}
    if found not in sources:
        raise unknown_names("system", [found], sorted(sources))
    system = SYSTEMS.get(found) or System(name=found, source=sources[found])
    return replace(system, data=tuple(RECIPES[found].learnt)) if found in RECIPES else system
