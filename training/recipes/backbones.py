"""Recipes that train a trunk end to end with its branches, whichever trunk the base has; see also ``systems``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from training.fit.augment import AugmentOptions
from training.fit.balance import Balance
from training.fit.descent import Descent
from training.recipes.catalogue import AGE, ATTRIBUTES, ETHNICITY, GENDER
from training.recipes.joint import JointOptions, TrunkTuning
from training.recipes.places import LAST_MAP
from training.recipes.recipe import HeadRecipe, Recipe, register

if TYPE_CHECKING:
    from training.data.face_sets import DataName

RATE = 2e-4  # of Adam, for trunk and branches alike
PATIENCE = 5  # epochs without a smaller held-out loss
MAX_EPOCHS = 40


def averaged(head: HeadRecipe, hidden: tuple[int, ...] = ()) -> HeadRecipe:
    """Return a head that reads the mean over the last map."""
    spec = replace(head.spec, depths=(LAST_MAP,), pool=1, hidden=hidden)
    fit = replace(
        head.fit, learning_rate=RATE, weight_decay=0.0, mixup=0.0, mirror=True, average=0.99, balance=Balance()
    )
    return replace(head, spec=spec, fit=fit, dropout=0.2, refit=False, smallest_search=None)


def end_to_end(data: DataName, faces: int) -> JointOptions:
    """Return the options of a run in which trunk and branches learn from random or from published weights.

    Args:
        data: the one set that is learnt from.
        faces: of its training split, about; an epoch is so many.
    """
    batch = 64
    epoch = faces // batch
    return JointOptions(
        steps=MAX_EPOCHS * epoch,
        batch={data: batch},
        searches=(None,),
        augment=AugmentOptions(uniform_shift=0.05, coarse=0.1, erase=0.0),
        descent=Descent(optimiser="adam", schedule="constant"),
        evaluate_every=epoch,
        patience=PATIENCE,
        trunk=TrunkTuning(
            name="together", learning_rate=RATE, layer_decay=1.0, statistics=True, hold=0.0, keeps_best=True
        ),
    )


BACKBONE = register(
    Recipe(
        name="backbone",
        heads=(averaged(GENDER), averaged(ETHNICITY), averaged(AGE)),
        summary="any trunk and three softmax layers learn together from UTKFace",
        joint=end_to_end("utkface", 16_000),
    )
)
"""Trunk and three softmax layers (gender, ethnicity, 117 years) on the mean over its last map learn together, with Adam
at 2e-4, until five epochs bring no smaller held-out loss. The base decides the trunk and where it starts.

Source: published comparisons of backbones (MobileNetV2, DenseNet-121, Xception, VGG-19, ResNet-18 and 50) with softmax
layers; the rate and the patience are theirs.
Command: ``facet-train convert-trunk resnet18-r112 --random --out out/resnet18``, then ``facet-train train backbone
--data D --cache C --base out/resnet18 --out R``; and so for other trunks, for one that ``facet-train identity``
distilled, and for ``efficientnet_lite0-r112`` with published weights.
Hours and figures: not measured.
"""

MOBILE_ATTRIBUTES = register(
    Recipe(
        name="mobile-attributes",
        heads=(averaged(ATTRIBUTES),),
        summary="any trunk and forty sigmoids learn together from CelebA",
        joint=end_to_end("celeba10k", 8_000),
    )
)
"""Trunk and forty sigmoids on the mean over its last map learn together; see ``backbone``.

Source: attributes of faces with MobileNetV1 and its two multipliers.
Command: ``facet-train convert-trunk mobilenet-w0.5-r96 --random --out out/mobilenet``, then ``facet-train train
mobile-attributes --data D --cache C --base out/mobilenet --out R``; widths 1, 0.5 and 0.25, crops of 112 and 96 pixels.
Hours and figures: not measured.
"""

CLASSIFIER_ATTRIBUTES = register(
    Recipe(
        name="classifier-attributes",
        heads=(averaged(ATTRIBUTES, hidden=(512, 128)),),
        summary="as mobile-attributes, with layers of 512 and 128 before the forty sigmoids",
        joint=end_to_end("celeba10k", 8_000),
    )
)
"""As ``mobile-attributes``, with a classifier 512-512-128-40, of which the first number is the last map of ResNet-18.

Source: attributes of faces with ResNet-18.
Command: ``facet-train convert-trunk resnet18-r112 --random --out out/resnet18``, then ``facet-train train
classifier-attributes --data D --cache C --base out/resnet18 --out R``.
Hours and figures: not measured.
"""
