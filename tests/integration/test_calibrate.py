"""A release that is calibrated anew: other readings, the same scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

from models.manifest import read_manifest
from models.release import DEFAULT, load_release
from training.calibrate import CalibrationOptions, recalibrate
from training.cli.main import app
from training.errors import RecipeError, TrainingError
from training.fit.losses import logit_offset
from training.fit.targets import READERS, targets
from training.recipes.recipe import find
from training.train import load_context

if TYPE_CHECKING:
    from pathlib import Path

    from training.train import TrainingContext


@pytest.fixture
def context(small_data: Path, tmp_path: Path) -> TrainingContext:
    return load_context(DEFAULT, small_data, tmp_path / "cache", smallest_search=None)


def crops() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_readings_change_and_scores_stay(small_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated"
    places = ["--data", str(small_data), "--cache", str(tmp_path / "cache"), "--out", str(out)]
    heads = [word for task in ("gender", "age", "attributes") for word in ("--head", task)]
    result = CliRunner().invoke(app, ["calibrate", "default", "--release", str(DEFAULT), *heads, *places])
    assert result.exit_code == 0, result.output
    assert "gender: temperature" in result.output
    before, after = read_manifest(DEFAULT), read_manifest(out)
    assert {spec.task for spec in after.branches} == {spec.task for spec in before.branches}
    assert after.verdict is not None  # without one `facet releases activate` refuses it
    assert after.verdict.base == before.name
    assert after.files == before.files  # not a byte of the weights
    changed = [a.task for a, b in zip(after.branches, before.branches, strict=True) if a.temperature != b.temperature]
    assert {"gender", "age", "attributes"} <= set(changed)
    found, known = (load_release(folder, device="cpu").infer(crops()) for folder in (out, DEFAULT))
    assert all(torch.equal(found.heads[task].codes, known.heads[task].codes) for task in known.heads)


def test_degraded_faces_make_intervals_wider(context: TrainingContext) -> None:
    recipe = find("default").only("age")
    (plain,), (both,) = (recalibrate(recipe, context, CalibrationOptions(degraded=share)) for share in (0.0, 1.0))
    assert both.spec.temperature > plain.spec.temperature


def test_a_power_divides_the_probabilities_by_shares(context: TrainingContext) -> None:
    recipe = find("default").only("gender")
    (plain,), (shifted,) = (
        recalibrate(recipe, context, CalibrationOptions(powers=powers)) for powers in ({}, {"gender": 0.5})
    )
    faces = READERS["utkface"](context.data)
    offset = logit_offset(targets("gender", faces, 2)[faces.rows("train")], 0.5)
    assert torch.allclose(plain.head[-1].bias - offset, shifted.head[-1].bias)
    assert torch.equal(plain.head[-1].weight, shifted.head[-1].weight)


def test_a_share_of_the_rows_is_the_same_each_time_and_calibrates_alone(context: TrainingContext) -> None:
    recipe = find("default").only("gender")
    (all_rows,), (some,), (again,) = (
        recalibrate(recipe, context, CalibrationOptions(share=share)) for share in (1.0, 0.5, 0.5)
    )
    assert some.spec == again.spec
    assert some.spec.temperature != all_rows.spec.temperature


def test_what_cannot_be_calibrated_is_refused(context: TrainingContext) -> None:
    recipe = find("default").only("gender", "age")
    with pytest.raises(TrainingError, match="no row of split 'other'"):
        recalibrate(recipe, context, CalibrationOptions(split="other"))
    with pytest.raises(RecipeError, match="powers for smile"):
        recalibrate(recipe, context, CalibrationOptions(powers={"smile": 1.0}))
    with pytest.raises(RecipeError, match="for the kind 'softmax'"):
        recalibrate(recipe, context, CalibrationOptions(powers={"age": 1.0}))
    with pytest.raises(RecipeError, match="above 0 up to 1"):
        CalibrationOptions(share=0.0)
