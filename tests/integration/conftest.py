"""Fixtures of several integration tests."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {"utkface": "labels.csv", "celeba10k": "attributes.csv"}
FACES = {"train": 24, "val": 8}


@pytest.fixture
def small_data(shared_data: Path, tmp_path: Path) -> Path:
    """Return a folder with a few labelled images of two data sets, in their layout."""
    for name, file in LABELS.items():
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "images").symlink_to(shared_data / name / "images")
        with (shared_data / name / file).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        kept = [row for split, count in FACES.items() for row in [r for r in rows if r["split"] == split][:count]]
        with (folder / file).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(kept)
    return tmp_path / "data"
