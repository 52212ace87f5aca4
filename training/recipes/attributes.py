"""Recipes of attributes that are read one by one: balanced, and with regions; see also ``catalogue``."""

from __future__ import annotations

from dataclasses import replace

from training.fit.balance import Balance
from training.recipes.catalogue import ATTRIBUTES
from training.recipes.recipe import Recipe, register

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
