"""The command that tunes a trunk with its branches, from labelled images to a release that answers for faces."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

from models.manifest import read_manifest
from models.release import DEFAULT, load_release
from training.cli.main import app
from training.recipes.joint import SecondRun
from training.recipes.recipe import RECIPES, find

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register the shipped recipe with two heads, and two small steps in each run; return its name."""
    recipe = find("default").only("gender", "attributes")
    assert recipe.joint is not None
    assert recipe.joint.trunk is not None
    trunk = replace(recipe.joint.trunk, name="tiny", learning_rate=1e-5, held_by={"celeba10k": 2})
    batch = {"utkface": 6, "celeba10k": 4}
    second = SecondRun(steps=2, teachers=2)
    joint = replace(recipe.joint, steps=2, batch=batch, evaluate_every=1, trunk=trunk, second=second)
    monkeypatch.setitem(RECIPES, "tiny", replace(recipe, name="tiny", joint=joint))
    return "tiny"


def test_a_trunk_is_tuned_and_released(tiny: str, small_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["train", tiny, "--data", str(small_data), "--cache", str(tmp_path / "cache"), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    manifest = read_manifest(out)
    assert manifest.trunk == "sface-tiny"
    assert {spec.task for spec in manifest.branches} == {"gender", "attributes"}
    crops = torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found, before = (load_release(folder, device="cpu").infer(crops) for folder in (out, DEFAULT))
    alike = (found.embeddings * before.embeddings).sum(dim=1)
    assert (alike > 0.9).all()
    assert (alike < 1 - 1e-6).all()
    runs = tmp_path / "cache" / "runs" / "tiny-0"
    assert {folder.name for folder in runs.iterdir()} == {"first-0", "first-1", "second", "seconds"}
    assert torch.allclose(found.heads["gender"].probabilities.sum(dim=1), torch.ones(2), atol=1e-3)
