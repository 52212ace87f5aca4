"""The command facet-train: help with an example everywhere, and exit statuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from training.cli.main import app, main
from training.fit import progress
from training.fit.progress import RunLog

COMMANDS = (
    "list",
    "train",
    "depth-search",
    "evaluate",
    "compare",
    "identity",
    "orientation",
    "regions",
    "card",
    "export",
    "convert",
    "convert-trunk",
    "describe",
    "bench",
    "systems",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: facet-train {command}" in result.output


def test_list_names_every_recipe_and_head():
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    assert "default" in result.output
    assert "ethnicity" in result.output
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).output)
    assert {head["spec"]["task"] for head in listed["default"]["heads"]} >= {"age", "emotion"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "nothing", "--data", "d", "--cache", "c", "--out", "o"], 2, "known are"),
        (["evaluate", "--data", "d", "--set", "fair"], 2, "known are utkface"),
        (["train", "nothing.json", "--data", "d", "--cache", "c", "--out", "o"], 2, "depth search"),
        (["depth-search", "--data", "d", "--cache", "c", "--out", "o", "--tasks", "hair"], 2, "no tasks hair"),
        (
            ["depth-search", "--data", "d", "--cache", "c", "--out", "o", "--release", "m"],
            1,
            "give the folder of a release",
        ),
        (["compare", "a", "b"], 2, "--data"),
        (["orientation", "--data", "d", "--cache", "c", "--out", "o", "--set", "fer2013"], 2, "known are celeba10k"),
        (["orientation", "--data", "d", "--cache", "c", "--out", "o"], 1, "attributes.csv"),
        (["export", "x", "--take", "age", "--out", "o"], 2, "HEAD=RELEASE"),
        (["train", "defualt", "--data", "d", "--cache", "c", "--out", "o"], 2, "did you mean default?"),
        (["evaluate", "--data", "d", "--set", "utk_face"], 2, "did you mean utkface?"),
        (["evaluate", "--data", "d", "--release", "missing"], 1, "missing"),
        (["list", "--color"], 2, "--color"),
    ],
)
def test_wrong_use_and_failure_have_their_own_status(arguments, status, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["facet-train", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["train", "default", "--data", "d", "--cache", "c"], ["export", "mine", "--take", "age=other"]],
)
def test_a_release_is_not_overwritten_unless_that_is_wanted(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "release.json").write_text("{}")

    def run(*more):
        monkeypatch.setattr("sys.argv", ["facet-train", *arguments, "--out", str(tmp_path), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    status, told = run()
    assert status == 2
    assert "holds a release already" in told
    assert "--overwrite" in told
    _, told = run("--overwrite")
    assert "holds a release already" not in told


def test_progress_outside_of_a_terminal_has_numbers(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    caplog.set_level("INFO")
    RunLog(tmp_path).write("age", 3, 0.1234, 0.75, 0.8)
    with progress.progress_bar("age", 10) as advance:
        advance(4, "0.750")
    assert caplog.messages == [
        "age: step 3, loss 0.1234, held-out score 0.7500, best 0.8000",
        "age: 4 of 10 (40 %) 0.750",
    ]
