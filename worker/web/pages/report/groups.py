"""Errors of the shipped release by group of people, as the model card states them; its manifest has totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class GroupErrors:
    """How the release did on the labelled faces of one group."""

    group: str
    faces: int
    gender: str
    """Share with the right gender and its 95 % interval."""
    ethnicity: str
    """Likewise."""
    age: str
    """Mean absolute error in years and its 95 % interval."""


WEIGHTS = {
    "branch-age.safetensors": "efd4833cfc76cc160ece7d64aa68ea2d9260b299432af1668ad8261d92451e7f",
    "branch-ethnicity.safetensors": "94a838259d4d9f623d73eee3325b0caff0c1d6f8aad5c36978b3f4958f690683",
    "branch-gender.safetensors": "c9e3e7ae8625e9826f7768c0d9f89bbeed6aeeedc7d9039f932f2227e3796653",
    "trunk.safetensors": "ab2b61e4a3521fbf81f43938d9b47f5039e03fbda0cc52d5c563cd65a224b7ca",
}
"""SHA-256 of the weights that were measured."""
MEASURED = (
    GroupErrors("male", 568, "96.0 % (94.4-97.4)", "89.8 % (87.3-92.3)", "4.77 (4.38-5.16)"),
    GroupErrors("female", 566, "94.5 % (92.4-96.3)", "89.4 % (86.7-92.0)", "4.01 (3.67-4.33)"),
    GroupErrors("White", 505, "95.4 % (93.5-97.2)", "93.9 % (91.7-95.8)", "4.89 (4.49-5.30)"),
    GroupErrors("Black", 207, "97.6 % (95.7-99.5)", "94.2 % (90.8-97.1)", "4.58 (3.95-5.24)"),
    GroupErrors("Asian", 165, "92.1 % (87.9-95.8)", "93.3 % (89.7-97.0)", "3.01 (2.48-3.53)"),
    GroupErrors("Indian", 185, "97.3 % (94.6-99.5)", "89.7 % (84.9-94.1)", "4.50 (3.79-5.20)"),
    GroupErrors("Other", 72, "88.9 % (81.9-95.8)", "37.5 % (27.8-48.6)", "3.27 (2.42-4.21)"),
    GroupErrors("0-17", 201, "81.1 % (75.6-86.6)", "86.6 % (81.6-91.0)", "1.93 (1.55-2.38)"),
    GroupErrors("18-39", 564, "98.4 % (97.3-99.3)", "88.3 % (85.5-90.8)", "3.76 (3.47-4.08)"),
    GroupErrors("40-59", 230, "98.7 % (97.0-100.0)", "91.7 % (87.8-94.8)", "6.60 (5.90-7.31)"),
    GroupErrors("60+", 139, "97.1 % (94.2-99.3)", "95.7 % (92.1-98.6)", "6.88 (6.04-7.85)"),
)
"""On the test split of UTKFace."""


def group_errors(files: Mapping[str, str]) -> tuple[GroupErrors, ...]:
    """Return the errors of a release by group; none where other weights were measured.

    Args:
        files: SHA-256 of each of its files.
    """
    return MEASURED if all(files.get(name) == sha256 for name, sha256 in WEIGHTS.items()) else ()
