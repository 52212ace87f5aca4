"""The shell of `facet sql`, typed into a terminal that is a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from db.reader.describe import read_column_names
from db.schema.views import VIEWS
from worker.cli.ask import _print_table
from worker.cli.output.sql_shell import SqlShell, complete_names, is_complete


@pytest.fixture
def shell(archive_url, tmp_path):
    """Type lines into a shell; return the rows that it showed."""

    def type_lines(*lines):
        shown = []
        with create_pipe_input() as typed, create_app_session(input=typed, output=DummyOutput()):
            typed.send_text("".join(f"{line}\r" for line in lines))
            shell = SqlShell(archive_url, lambda result, _: shown.append(list(result)), 10, tmp_path / "history")
            shell.run()
        return shown

    return type_lines


def test_queries_may_take_lines_and_errors_do_not_end_it(shell, capsys):
    query = ("SELECT name FROM people", "WHERE name < 'C'", "ORDER BY 1;")
    shown = shell(*query, "SELEC 1;", "SELECT nothing;", "TABLE x;", "SELECT count(*) > 1 FROM media;", r"\q")
    assert shown == [[("Ada",), ("Bo",)], [(True,)]]
    told = capsys.readouterr().err
    assert told.count("facet: ") == 3
    assert all(phrase in told for phrase in ("expected one SELECT", '"nothing" does not exist', "the views releases, "))


def test_views_and_columns_are_described(shell, capsys):
    views, columns = shell(r"\d", r"\d people", r"\nothing", r"\?", "quit;")
    assert "people" in [view for view, _ in views]
    assert all(description for _, description in views)
    assert ("person_id", "bigint") in [(name, kind) for name, kind, _ in columns]
    assert all(description for *_, description in columns)
    out, err = capsys.readouterr()
    assert "Ctrl-D" in out
    assert r"\nothing is no command" in err


def test_descriptions_are_shown_whole_in_a_narrow_terminal(archive_url, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    SqlShell(archive_url, _print_table, 10, None).answer(r"\d people")
    out = capsys.readouterr().out
    assert "..." not in out
    assert all(word in out for word in ("weighted", "face_count", "elected"))
    assert max(map(len, out.splitlines())) <= 80


def test_the_shell_only_reads(shell, capsys):
    assert shell("DELETE FROM people;", "SELECT set_config('role', 'postgres', false);", r"\q") == []
    assert "side effects" in capsys.readouterr().err


def test_the_history_is_kept(shell, tmp_path):
    assert shell("SELECT max(person_id) > 0 FROM people;", r"\q") == [[(True,)]]
    assert "SELECT max(person_id) > 0 FROM people;" in (tmp_path / "history").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("SELECT max(person_i", {"person_id"}), ("TABLE PEO", {"people"}), ("sel", {"SELECT"}), ("nothing", set())],
)
def test_names_are_completed(archive_url, text, expected):
    names = complete_names([*VIEWS, *read_column_names(archive_url)])
    assert [found.text for found in names.get_completions(Document(text), CompleteEvent())] == list(expected)


@pytest.mark.parametrize(
    ("text", "complete"), [("", True), ("SELECT 1", False), ("SELECT 1;  ", True), (r"\d people", True), ("exit", True)]
)
def test_enter_ends_what_is_complete(text, complete):
    assert is_complete(text) is complete


def test_facet_sql_opens_it_in_a_terminal_and_reads_a_query_from_a_pipe(archive_url, tmp_path):
    facet = str(Path(sys.executable).parent / "facet")
    environment = os.environ | {"FACET_HOME": str(tmp_path), "FACET_DATABASE_URL": archive_url, "TERM": "dumb"}
    keyboard, terminal = pty.openpty()
    with subprocess.Popen([facet, "sql"], stdin=terminal, stdout=subprocess.PIPE, env=environment, text=True) as shell:
        os.write(keyboard, b"SELECT 6 * 7 AS answer;\n\\q\n")
        assert "42" in shell.communicate(timeout=120)[0]
        assert shell.returncode == 0
    os.close(keyboard)
    os.close(terminal)
    piped = subprocess.run(
        [facet, "sql", "--format", "csv"], input="SELECT 6 * 7 AS answer", env=environment, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert piped.stdout.split() == ["answer", "42"]
