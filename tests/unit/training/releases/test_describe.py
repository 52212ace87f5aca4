from __future__ import annotations

import json

from typer.testing import CliRunner

from models.manifest import TRUNK_FILE, read_manifest
from models.release import DEFAULT
from training.cli.main import app
from training.errors import RecipeError
from training.releases.describe import describe_release, describe_trunk
from training.releases.speed import Speed


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_shipped_release_is_described():
    found = describe_release(DEFAULT)
    runs = found.runs()
    tasks = [spec.task for spec in read_manifest(DEFAULT).branches]
    assert runs["identity alone"] == found.cost.trunk.macs <= runs["identity and all heads"] <= 1_000_000_000
    assert found.sizes[""] == (DEFAULT / TRUNK_FILE).stat().st_size
    for task in tasks:
        assert runs[f"all but {task}"] == runs["identity and all heads"] - found.cost.branches[task].macs
        assert f"| {task} |" in found.table()
    assert "| identity alone | 574.1 |" in found.table()


def test_a_trunk_is_described_without_a_release():
    found = describe_trunk("face24-w0.5-r112")
    assert found.runs() == {"identity alone": found.cost.trunk.macs}
    assert found.sizes == {"": 4 * (found.cost.trunk.weights + found.cost.trunk.others)}


def test_describe_writes_json():
    plain = json.loads(run("describe", "--json"))
    assert plain["trunk"]["name"] == read_manifest(DEFAULT).trunk
    assert {branch["task"] for branch in plain["branches"]} == {s.task for s in read_manifest(DEFAULT).branches}
    assert json.loads(run("describe", "--trunk", "dlib29", "--json"))["trunk"]["macs"] == 270_854_144


def test_a_release_has_one_trunk():
    result = CliRunner().invoke(app, ["describe", "--trunk", "dlib29", "--release", "x"])
    assert isinstance(result.exception, RecipeError)


def test_bench_measures_what_runs():
    plain = json.loads(run("bench", "--batch", "2", "--rounds", "1", "--device", "cpu", "--json"))
    assert plain["identity_macs"] == 574_138_880
    assert min(plain["identity_seconds"], plain["all_seconds"], plain["peak"]) > 0


def test_the_report_of_speed_names_its_numbers():
    speed = Speed(
        device="cpu",
        dtype="bfloat16",
        threads=2,
        batch=10,
        identity_seconds=0.5,
        all_seconds=0.55,
        overhead=0.12,
        identity_macs=500_000_000,
        all_macs=550_000_000,
        peak=100e9,
    )
    text = "\n".join(speed.lines)
    assert "| identity alone | 20.0 | 50.00 | 0.500 | 10.0 % |" in text
    assert "add 10.0 % to the best time" in text
    assert "(median of the rounds 12.0 %)" in text
