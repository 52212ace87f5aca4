"""Messages of commands: what they tell a user to type works when typed."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from worker.cli.output.terminal import typed


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program called facet that prints its home and arguments; the test runs as if it were this one."""
    path = tmp_path / "my bin" / "facet"
    path.parent.mkdir()
    path.write_text(f'#!{sys.executable}\nimport os, sys\nprint(os.environ.get("FACET_HOME"), sys.argv[1:])\n')
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "analyze"])
    monkeypatch.delenv("FACET_HOME", raising=False)
    return path


def shell(command: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "FACET_HOME"}
    return subprocess.run(["sh", "-c", command], env=clean, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("query", ["SELECT * FROM people", "SELECT 'a b' \"x\"", "SELECT '$HOME `x` \\'", "x!"])
def test_a_command_names_program_and_home_and_quotes_its_arguments(program, tmp_path, monkeypatch, query):
    monkeypatch.setenv("FACET_HOME", str(tmp_path / "my home"))
    assert shell(typed("sql", query)) == f"my home {['sql', query]}\n"


def test_it_is_short_where_the_program_is_found_and_the_home_is_the_usual_one(program, monkeypatch):
    assert typed("status", "3", "--watch") == "'my bin/facet' status 3 --watch"
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert typed("status", "3", "--watch") == "facet status 3 --watch"


def test_another_program_of_the_name_is_not_named_instead(program, tmp_path, monkeypatch):
    other = tmp_path / "other" / "facet"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    assert shell(typed("status")) == "None ['status']\n"
    assert Path("my bin/facet").exists()


WIDTHS = """
from worker.cli.output.terminal import console
print(console().width)
"""


@pytest.mark.parametrize(
    ("into", "columns", "width"),
    [("pipe", None, 72), ("file", None, 200), ("pipe", "60", 60), ("no terminal", None, 200)],
)
def test_a_table_in_a_pipe_fits_the_terminal_behind_it(tmp_path, into, columns, width):
    terminal, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 72))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {} if columns is None else {"COLUMNS": columns}
    shown = tmp_path / "shown"
    command = f"{sys.executable} -c '{WIDTHS}' {'>' if into == 'file' else '| cat >'} {shown}"
    error = subprocess.DEVNULL if into == "no terminal" else slave
    subprocess.run(command, shell=True, env=environment, check=True, stderr=error)
    os.close(slave)
    os.close(terminal)
    assert shown.read_text() == f"{width}\n"
