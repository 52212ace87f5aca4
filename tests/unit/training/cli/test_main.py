"""The command facet-train: help with an example everywhere, and exit statuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from training.cli.main import app, main

COMMANDS = (
    "list",
    "train",
    "depth-search",
    "evaluate",
    "compare",
    "identity",
    "orientation",
    "card",
    "export",
    "convert",
    "convert-trunk",
    "describe",
    "bench",
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
