"""All recipes. A recipe is another one plus a difference."""

from __future__ import annotations

from dataclasses import replace

from models.branches import BranchSpec
from training.data.face_sets import (
    CELEBA_ATTRIBUTES,
    EMOTIONS,
    ETHNICITIES,
    GENDERS,
    MAX_AGE,
    ORIGINAL_EMOTIONS,
)
from training.fit.fit import FitOptions
from training.recipes.joint import JointOptions, SecondRun, TrunkTuning
from training.recipes.places import FINER_MAP, LAST_MAP
from training.recipes.recipe import HeadRecipe, Recipe, register

# Of SFace the last map of 14 x 14 cells, which still shows expressions, and the last of 7 x 7, nearest to identity.
BOTH_MAPS = (FINER_MAP, LAST_MAP)


def at(head: HeadRecipe, *depths: str) -> HeadRecipe:
    """Return a head's recipe with other depths."""
    return replace(head, spec=replace(head.spec, depths=depths))


GENDER = HeadRecipe(
    spec=BranchSpec(task="gender", kind="softmax", labels=GENDERS, depths=(LAST_MAP,), pool=4, hidden=256),
    data="utkface",
    fit=FitOptions(loss="cross_entropy", mixup=0.2, epochs=12),
    answers_accuracy=0.97,
    refit=True,
    smallest_search=None,
)
ETHNICITY = HeadRecipe(
    spec=BranchSpec(task="ethnicity", kind="softmax", labels=ETHNICITIES, depths=(LAST_MAP,), pool=3, hidden=256),
    data="utkface",
    fit=FitOptions(loss="cross_entropy", mixup=0.2, epochs=12),
    answers_accuracy=0.92,
    most_false=0.05,
)
AGE = HeadRecipe(
    spec=BranchSpec(
        task="age",
        kind="age",
        labels=tuple(str(year) for year in range(MAX_AGE + 1)),
        depths=(LAST_MAP,),
        pool=3,
        hidden=256,
    ),
    data="utkface",
    fit=FitOptions(loss="age", mixup=0.2, epochs=12),
)
EMOTION = HeadRecipe(
    spec=BranchSpec(task="emotion", kind="softmax", labels=EMOTIONS, depths=(FINER_MAP,), pool=3, hidden=256),
    data="fer2013",
    fit=FitOptions(loss="cross_entropy", mixup=0.2, epochs=14, mirror=False),
    answers_accuracy=0.88,
)
EMOTION7 = HeadRecipe(
    spec=BranchSpec(task="emotion7", kind="softmax", labels=ORIGINAL_EMOTIONS, depths=(FINER_MAP,), pool=4, hidden=256),
    data="fer2013",
    fit=FitOptions(loss="cross_entropy", mixup=0.2, epochs=30, patience=8),
    refit=True,
)
ATTRIBUTES = HeadRecipe(
    spec=BranchSpec(
        task="attributes", kind="multilabel", labels=CELEBA_ATTRIBUTES, depths=BOTH_MAPS, pool=3, hidden=256
    ),
    data="celeba10k",
    fit=FitOptions(loss="binary", mixup=0.2, epochs=10, mirror=False),
)

FROZEN = register(
    Recipe(
        name="frozen",
        heads=(GENDER, AGE, ETHNICITY, EMOTION, EMOTION7, ATTRIBUTES),
        summary="pooled maps of the frozen trunk; minutes on a few CPU cores",
    )
)
"""Branches on a frozen trunk: to retrain one of them, or to try labels of your own.

Source: frozen features of SFace; losses as in training.fit.losses.
Command: ``facet-train train frozen --data D --cache C --base out/sface --out R``, with the published trunk brought by
``facet-train convert-trunk sface`` (docs/training.md)
Hours: 0.5 on two CPU cores with bfloat16 tiles, of which 0.3 for crops and features. The crops of gender, cut once as
users get them, take five times as long as the others.
Expected on the test rows: gender 94.9 %, ethnicity 89.2 %, age 4.45 years (root mean square 6.41), FER+ 87.5 %, the
seven emotions 68.8 %, attributes 90.0 %.
"""


def tuned(head: HeadRecipe, *depths: str) -> HeadRecipe:
    """Return a head's recipe for a run in which the trunk learns, too."""
    spec = replace(head.spec, depths=depths, pool=3)
    fit = replace(head.fit, learning_rate=1e-3, mixup=0.2, average=0.999, held_out=0.01, mirror=True)
    return replace(head, spec=spec, fit=fit, refit=False, smallest_search=None)


DEFAULT = register(
    Recipe(
        name="default",
        heads=(
            tuned(GENDER, LAST_MAP),
            tuned(AGE, LAST_MAP),
            tuned(ETHNICITY, LAST_MAP),
            tuned(EMOTION, *BOTH_MAPS),
            tuned(EMOTION7, *BOTH_MAPS),
            tuned(ATTRIBUTES, *BOTH_MAPS),
        ),
        summary="the trunk tuned with all branches, its embeddings held; makes the shipped release",
        joint=JointOptions(
            steps=4200,
            batch={"utkface": 192, "fer2013": 192, "celeba10k": 64},
            searches=(None,),
            evaluate_every=500,
            trunk=TrunkTuning(name="multitask", held_by={"celeba10k": 64, "utkface": 64}),
            second=SecondRun(steps=9600),
        ),
    )
)
"""The shipped release: every layer of SFace learns from all three data sets, while its embeddings stay.

Two first runs give two teachers; a second run learns from them, and from the validation rows too.

Source: SFace; augmentation as in training.fit.augment; losses as in training.fit.losses.
Command: ``facet-train train default --data D --cache C --base out/sface --out R``, with the published trunk brought by
``facet-train convert-trunk sface`` (docs/training.md)
Hours: 0.4 on one H100 (0.06 s a step of 576 faces, 0.08 with two teachers), once the crops are cut (0.3 on two CPU
cores).
Expected: the figures in docs/model-card.md.
"""

TWO_DEPTHS = register(
    Recipe(
        name="two-depths",
        heads=tuple(at(head, *BOTH_MAPS) for head in (GENDER, AGE, ETHNICITY, EMOTION)),
        summary="each branch reads two maps: larger files, no better on validation data",
    )
)
"""Two depths for each branch of the frozen trunk, to see whether a second one helps: hardly.

Source: as ``frozen``.
Command: ``facet-train train two-depths --data D --cache C --base out/sface --out R``, with the same base as ``frozen``.
Hours: 0.4 on two CPU cores.
Expected on UTKFace's validation split: age 4.38 years, against 4.41 of the branch of ``frozen`` at that time, whose
file was half as large.
"""

RELEARNT = register(
    Recipe(
        name="relearnt",
        heads=tuple(
            replace(
                head,
                spec=replace(head.spec, depths=(depth,), relearnt_to=LAST_MAP, pool=3),
                fit=replace(head.fit, weight_decay=0.05, mixup=0.2),
                copies=True,
            )
            for head, depth in (
                (GENDER, FINER_MAP),
                (AGE, FINER_MAP),
                (ETHNICITY, FINER_MAP),
                (EMOTION, f"2 before {FINER_MAP}"),
                (EMOTION7, f"2 before {FINER_MAP}"),
                (ATTRIBUTES, FINER_MAP),
            )
        ),
        summary="own copies of the trunk's layers behind a depth, relearnt on augmented crops",
        joint=JointOptions(steps=2600, batch={"utkface": 64, "fer2013": 96, "celeba10k": 24}),
    )
)
"""Branches that relearn the trunk's own layers behind the depth at which they leave it, while the trunk is frozen.

Source: as ``frozen``; the layers start as copies of the trunk's and learn at a third of the rate, statistics of batch
norm included; augmentation as in training.fit.augment.
Command: ``facet-train train relearnt --data D --cache C --base out/sface --out R``, with the same base as ``frozen``.
Hours and figures: not measured. Narrow stages from the 14 x 14 maps on, which this recipe trained before, were no
better than the branches of ``frozen`` at that time: gender 94.9 %, ethnicity 89.5 %, age 4.36 years on the training
rows held out.
"""
