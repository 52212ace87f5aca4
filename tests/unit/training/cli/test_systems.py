"""The table of systems, from made evaluations, and from those of the documentation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.manifest import TRUNK_PART, TrainingRun, read_manifest
from models.release import DEFAULT
from models.trunks.registry import list_trunks
from training.cli.main import app
from training.cli.systems import SPEED_FILE
from training.errors import DataError, RecipeError
from training.evaluate.evaluate import Evaluation, ReleaseFacts
from training.evaluate.findings import Row
from training.evaluate.metrics import Figure
from training.evaluate.outcomes import Outcomes
from training.evaluate.report.systems import ReleaseSpeed, SpeedRun, Speeds
from training.evaluate.report.tables import END, START
from training.recipes.published_systems import SYSTEMS, TRUNK_SOURCES, find_system
from training.recipes.recipe import RECIPES
from training.releases.describe import describe_release, release_facts

ROOT = Path(__file__).resolve().parents[4]
FROZEN = TrainingRun(
    recipe="frozen", start="sface-2021dec", learnt={"utkface": ("age",)}, seconds=1800.0, device="cpu, 2 threads"
)
DISTILLED = TrainingRun(
    recipe="distil from sface", start="random weights", learnt={"lfw": (TRUNK_PART,)}, seconds=5400.0, device="GPU"
)


def figure(value, count=100):
    return Figure(value, value - 0.02, value + 0.02, count)


def evaluation(*rows, training=(FROZEN,), sha256="a"):
    facts = ReleaseFacts(
        trunk="sface-2021dec",
        macs=583_000_000,
        parameters=12_345_678,
        bytes=54_300_000,
        data=("utkface", "celeba10k"),
        training=training,
    )
    return Evaluation("made", sha256 * 64, "test", (), tuple(rows), facts=facts)


GENDER_VALUES = np.array([1.0, 0.0])
GENDER = Row("utkface", "gender", "accuracy", figure(0.952))
AGE = Row("utkface", "age", "root mean square error", figure(6.36))
SEVEN = Row("fer2013", "emotion", "accuracy of seven", figure(0.7))


def run(*arguments):
    return CliRunner().invoke(app, ["systems", *map(str, arguments)])


def write(folder, name, found):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(found.to_json())
    return folder / f"{name}.json"


def cells(output, name):
    """Return the cells of the first row of a system by the title of their column."""
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in output.splitlines() if "|" in line]
    line = next(line for line in output.splitlines() if line.startswith(f"| {name} |"))
    return dict(zip(lines[0], [cell.strip() for cell in line[1:-1].split("|")], strict=True))


def test_a_row_has_cost_origin_and_figures_beside_those_of_the_authors(tmp_path):
    write(tmp_path / "s", "shared-gaussian-map", evaluation(GENDER, AGE, SEVEN))
    result = run(tmp_path / "s")
    assert result.exit_code == 0, result.output
    found = cells(result.output, "shared-gaussian-map")
    assert found["gender"] == "95.2 (93.2-97.2) / 94.84*"
    assert found["age RMSE"] == "6.36 (6.34-6.38) / 6.85*"
    assert found["ethnicity"] == "/ 87.97*"
    assert found["seven emotions"] == "70.0 (68.0-72.0)"
    assert found["LFW"] == found["FER+"] == found["speed"] == ""
    assert (found["GMAC"], found["parameters"], found["MB"]) == ("0.583", "12.35 M", "54.3")
    assert (found["start weights"], found["data"]) == ("sface-2021dec", "utkface, celeba10k")
    assert found["hours"] == "0.50 (cpu, 2 threads)"
    assert "gender 100" in result.output


def test_the_hours_of_all_runs_are_added_and_a_trunks_objective_is_named(tmp_path):
    write(tmp_path, "frozen@face24", evaluation(GENDER, training=(DISTILLED, FROZEN)))
    found = cells(run(tmp_path).output, "frozen@face24")
    assert found["hours"] == "2.00 (GPU, cpu, 2 threads)"
    assert found["start weights"] == "random weights, distil from sface"


def test_a_release_without_runs_has_what_the_registry_knows(tmp_path):
    write(tmp_path, "default", replace(evaluation(GENDER), facts=None))
    write(tmp_path, "fusion-hard", evaluation(GENDER, training=()))
    output = run(tmp_path).output
    assert cells(output, "default")["hours"] == "0.40 (NVIDIA H100)"
    assert cells(output, "default")["start weights"] == "sface-2021dec, published"
    assert cells(output, "default")["GMAC"] == ""
    assert cells(output, "default")["data"] == "utkface, fer2013, ferplus, celeba10k"
    assert cells(output, "fusion-hard")["hours"] == ""
    assert cells(output, "fusion-hard")["start weights"] == "sface-2021dec"
    assert cells(output, "fusion-hard")["data"] == "utkface"  # of the recipe: older releases name sets of others, too


def test_rows_are_in_the_order_of_the_registry(tmp_path):
    for name in ("relearnt", "default", "frozen@b", "frozen@a"):
        write(tmp_path, name, evaluation(GENDER))
    output = run(tmp_path).output
    places = [output.index(f"| {name} |") for name in ("default", "frozen@a", "frozen@b", "relearnt")]
    assert places == sorted(places)


def test_heads_elsewhere_have_a_table_of_their_own(tmp_path):
    write(tmp_path, "fusion-hard", evaluation(GENDER))
    assert "Gender and happiness on sets" not in run(tmp_path).output
    write(tmp_path, "default", evaluation(GENDER, Row("lfw", "gender", "accuracy", figure(0.987))))
    output = run(tmp_path).output
    assert "| 98.7 (96.7-100.7) |" in output.split("Gender and happiness on sets")[1]


def test_an_added_evaluation_is_kept_without_the_outcomes_of_faces(tmp_path):
    outcome = Outcomes.of(("utkface", "gender", "accuracy"), GENDER_VALUES, ["a", "b"], {}, higher_is_better=True)
    groups = [replace(GENDER, group=group) for group in ("female", "female / Asian / 0-17")]
    source = write(tmp_path, "fusion-hard", replace(evaluation(GENDER, *groups), outcomes=(outcome,)))
    assert run(tmp_path / "kept", "--add", source).exit_code == 0
    kept = Evaluation.from_json((tmp_path / "kept" / "fusion-hard.json").read_text())
    assert [row.group for row in kept.rows] == ["all", "female"]
    assert (kept.outcomes, kept.facts) == ((), evaluation().facts)


def test_systems_of_other_rows_are_not_compared(tmp_path):
    write(tmp_path, "default", evaluation(GENDER))
    write(tmp_path, "frozen", evaluation(replace(GENDER, figure=figure(0.9, count=99))))
    result = run(tmp_path)
    assert isinstance(result.exception, DataError)
    assert "gender: frozen was measured on 99, default on 100" in str(result.exception)


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("fusoin-hard", "{}", RecipeError, "did you mean fusion-hard?"),
        ("frozen", "{}", DataError, "no JSON of facet-train evaluate"),
        ("speed", "{}", DataError, "holds no evaluation"),
    ],
)
def test_files_that_are_no_systems_are_refused(tmp_path, name, text, error, message):
    (tmp_path / f"{name}.json").write_text(text)
    result = run(tmp_path)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_only_the_part_between_the_lines_of_a_page_is_renewed(tmp_path):
    write(tmp_path / "s", "default", evaluation(GENDER))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{START}\nstale\n{END}\nafter\n")
    assert run(tmp_path / "s", "--out", page).exit_code == 0
    once = page.read_text()
    assert once.startswith(f"before\n{START}\n| system | source |")
    assert once.endswith(f"\n{END}\nafter\n")
    run(tmp_path / "s", "--out", page)
    assert page.read_text() == once


def test_releases_are_measured_by_turns_and_their_speeds_stand_in_the_table(tmp_path):
    small = ["--batch", "1", "--rounds", "1", "--device", "cpu"]
    sha256 = read_manifest(DEFAULT).weights_sha256
    write(tmp_path, "default", replace(evaluation(GENDER), weights_sha256=sha256))
    result = run(tmp_path, "--measure", DEFAULT, *small)
    assert result.exit_code == 0, result.output
    (kept,) = json.loads((tmp_path / SPEED_FILE).read_text())["runs"]
    (speed,) = kept["releases"]
    assert speed["weights_sha256"] == sha256
    assert speed["identity"] > 0
    assert cells(result.output, "default")["speed"] == "1.00"
    assert "1 faces at once, the best of 1 rounds" in result.output


def test_the_facts_of_a_release_are_those_that_describe_counts():
    facts, found = release_facts(DEFAULT), describe_release(DEFAULT)
    assert facts.macs == found.runs()["identity and all heads"]
    assert facts.bytes == sum((DEFAULT / file).stat().st_size for file in read_manifest(DEFAULT).files)
    assert facts.parameters == found.cost.trunk.weights + found.cost.trunk.others + sum(
        cost.weights + cost.others for cost in found.cost.branches.values()
    )
    assert facts.data == ("utkface", "fer2013", "ferplus", "celeba10k")
    assert facts.training == ()


def test_every_system_is_a_recipe_and_has_a_source():
    assert SYSTEMS.keys() <= RECIPES.keys()
    assert all(find_system(name).source for name in RECIPES)
    assert TRUNK_SOURCES.keys() <= set(list_trunks())
    assert find_system("face24@w0.5-r112").source == find_system("relearnt").source
    assert all(find_system(family).source for family in list_trunks())


def test_the_page_is_what_the_command_writes(tmp_path):
    page = ROOT / "docs" / "systems.md"
    copy = tmp_path / "systems.md"
    copy.write_text(page.read_text())
    assert run(ROOT / "docs" / "systems", "--out", copy).exit_code == 0
    assert copy.read_text() == page.read_text()


def speed_run(**everything):
    releases = tuple(ReleaseSpeed(name, name, rate, rate) for name, rate in everything.items())
    return SpeedRun(device="cpu", dtype="bfloat16", threads=2, batch=64, rounds=15, releases=releases)


def test_releases_that_are_gone_keep_the_share_of_the_run_that_had_them():
    speeds = Speeds((speed_run(default=100.0, old=80.0, again=50.0), speed_run(default=300.0, again=330.0)))
    assert [speeds.of(name) for name in ("default", "old", "again", "never")] == [1.0, 0.8, 1.1, None]
    assert Speeds.from_json(speeds.to_json()) == speeds


def test_a_run_without_the_release_that_all_are_compared_with_is_refused(tmp_path):
    with pytest.raises(DataError, match="got the speeds of other; measure the release 'default', too"):
        _ = speed_run(other=1.0).reference
