"""The figures of a release's model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.evaluate.report import tables
from training.evaluate.report.summary import reader_table

if TYPE_CHECKING:
    from training.evaluate.evaluate import Evaluation


def card_tables(found: Evaluation) -> str:
    """Format all tables of the model card."""
    parts = [
        f"Release `{found.release}`, weights `{found.weights_sha256[:16]}`, {found.split} splits.",
        *(("### For readers", reader_table(found)) if reader_table(found) else ()),
        "### All figures over whole sets",
        tables.overall(found),
        "### How faces were found",
        tables.found_faces(found),
        "### By gender, ethnicity and age (UTKFace)",
        tables.single_groups(found),
        "### By gender, ethnicity and age together (UTKFace)",
        tables.crossed_groups(found),
        "### Each attribute (CelebA)",
        tables.attributes(found),
    ]
    optional = (
        ("### Recall of each class", tables.recalls(found)),
        ("### Ethnicity label by label, by the release's thresholds", tables.operating(found)),
        (
            "### Years, bins of ages and cross-entropy (nats) by gender, ethnicity and age (UTKFace)",
            tables.finer_groups(found),
        ),
        ("### By size of the face", tables.by_size(found)),
        ("### On degraded copies", tables.by_degradation(found)),
        ("### Verification at few false pairs, by group", tables.rates_by_group(found)),
    )
    parts += [part for title, text in optional if text for part in (title, text)]
    return "\n\n".join(parts) + "\n"


def fill_card(text: str, found: Evaluation) -> str:
    """Replace the figures of a model card.

    Raises:
        TrainingError: the card has no lines for the figures.
    """
    return tables.fill_page(text, card_tables(found))
