"""Errors that reach the command line, as a user sees them."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata

import psycopg.errors
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

main = importlib.import_module("worker.cli.main")  # the package gives the function under the same name


@pytest.fixture(autouse=True)
def keep_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (psycopg.errors.DiskFull("could not extend file: No space left on device"), "No space left on device"),
        (psycopg.errors.AdminShutdown("terminating connection"), "terminating connection"),
        (psycopg.OperationalError("connection refused"), "connection refused"),
    ],
)
def test_a_database_that_is_full_or_away_takes_one_line(monkeypatch, capsys, error, said):
    def fail():
        raise OperationalError("INSERT INTO job", {}, error)

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main.main()
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert told.count("\n") == 1
    assert said in told
    assert "facet db check" in told


def test_an_unexpected_error_is_not_hidden(monkeypatch):
    def fail():
        raise IntegrityError("INSERT INTO job", {}, psycopg.errors.UniqueViolation("duplicate key"))

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(IntegrityError):
        main.main()


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_summary_in_the_help_is_the_command_s_own(name):
    own = main.Later(name).load().help.split("\n\n")[0]
    assert main.COMMANDS[name][1] == " ".join(own.split())


SILENT = {"worker", "beat", "flower", "web", "sheet", "annotate", "export", "report", "sample", "forget"}
"""Programs that run on, files that are drawn or written, and a receipt that is JSON by itself."""


def walk(name, command):
    command = command.load() if isinstance(command, main.Later) else command
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, child in command.commands.items():
        yield from walk(f"{name} {word}".strip(), child)


def test_every_command_that_answers_does_so_in_json_too():
    commands = list(walk("", main.typer.main.get_command(main.app)))
    lacking = {name for name, one in commands if not any("--json" in option.opts for option in one.params)}
    assert {name for name in lacking if not name.startswith("db ")} == SILENT


def test_the_version_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["facet", "--version"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"facet {metadata.version('facet')}\n"


def test_ctrl_c_takes_one_line_that_says_what_to_do(monkeypatch, capsys):
    class Pressed:
        def load(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(main.Later, "load", Pressed.load)
    monkeypatch.setattr(sys, "argv", ["facet", "status"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "facet: interrupted; nothing is lost, run the same command again to go on\n"


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["facet", "peple"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "'people'" in capsys.readouterr().err
