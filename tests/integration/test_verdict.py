"""The verdict that training writes into a release, on real labelled faces."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
import torch

from models.manifest import read_manifest
from models.release import DEFAULT
from training.releases.export import branches_of, export
from training.releases.verdict import add_verdict

if TYPE_CHECKING:
    from pathlib import Path

FACES = 120


@pytest.fixture(scope="module")
def few_faces(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with some test rows of UTKFace."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "utkface").mkdir()
    (folder / "utkface" / "images").symlink_to(shared_data / "utkface" / "images")
    with (shared_data / "utkface" / "labels.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == "test"][:FACES]
    with (folder / "utkface" / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def sabotaged(target: Path) -> Path:
    """Write the shipped release with a gender branch that says the contrary."""
    (branch,) = branches_of(DEFAULT, ["gender"])
    with torch.no_grad():
        last = branch.head[-1]
        last.weight.neg_()
        last.bias.neg_()
    export("contrary", DEFAULT, [branch], target)
    return target


def test_a_sabotaged_branch_gets_a_bad_verdict(few_faces: Path, tmp_path: Path) -> None:
    folder, cache = sabotaged(tmp_path / "contrary"), tmp_path / "cache"
    before = read_manifest(folder)
    verdict = add_verdict(DEFAULT, folder, few_faces, cache)
    assert verdict is not None
    assert not verdict.is_good
    assert any("utkface, gender, all: accuracy" in line for line in verdict.worse), verdict.worse
    assert not any(", age," in line or ", ethnicity," in line for line in verdict.worse), "these branches are the same"
    after = read_manifest(folder)
    assert after.verdict == verdict
    assert (after.fingerprint, after.files) == (before.fingerprint, before.files)


def test_a_branch_of_the_same_weights_gets_a_good_verdict(few_faces: Path, tmp_path: Path) -> None:
    (branch,) = branches_of(DEFAULT, ["gender"])
    export("same", DEFAULT, [branch], tmp_path / "same")
    verdict = add_verdict(DEFAULT, tmp_path / "same", few_faces, tmp_path / "cache")
    assert verdict is not None
    assert verdict.is_good
    assert verdict.base == read_manifest(DEFAULT).name
    assert verdict.base_fingerprint == read_manifest(DEFAULT).fingerprint


def test_without_labelled_sets_there_is_no_verdict(tmp_path: Path) -> None:
    folder = sabotaged(tmp_path / "contrary")
    (tmp_path / "empty").mkdir()
    assert add_verdict(DEFAULT, folder, tmp_path / "empty") is None
    assert read_manifest(folder).verdict is None
