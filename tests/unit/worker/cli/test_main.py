"""Errors that reach the command line, as a user sees them."""

from __future__ import annotations

import importlib
import sys

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
