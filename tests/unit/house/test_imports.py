"""A command imports what it needs: help costs no database, no model and no codec."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"alembic", "av", "celery", "numpy", "PIL", "psycopg", "pyarrow", "pydantic", "scipy", "sqlalchemy", "torch"}
OF_QUERIES = {"alembic", "psycopg", "pydantic", "sqlalchemy"}
SCRIPT = """
import sys
sys.argv = ["facet", *{words!r}]
from worker.cli import main
try:
    main()
finally:
    print(*sorted({heavy!r} & set(sys.modules)), file=sys.stderr)
"""


def imported(*words: str) -> set[str]:
    script = SCRIPT.format(words=words, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_and_version_import_no_library_of_the_work(words: tuple[str, ...]) -> None:
    assert imported(*words) == set()


@pytest.mark.parametrize("command", ["sql", "status", "worker", "db", "schedule"])
def test_a_command_that_needs_no_arrays_imports_none(command: str) -> None:
    assert imported(command, "--help") <= OF_QUERIES


def test_what_is_imported_is_seen() -> None:
    assert "numpy" in imported("people", "--help")
