"""The program in the process of the test, for its many short commands on one archive."""

from __future__ import annotations

from types import SimpleNamespace

import psycopg
import pytest
from psycopg.rows import dict_row
from typer.testing import CliRunner

from db.errors import DatabaseError
from worker.cli.main import app
from worker.config import settings
from worker.errors import FacetError, UsageError


class Quick:
    """Runs commands on the archive of a home, whose database is running."""

    def __init__(self, facet):
        self.home = facet.home
        self.address = facet("db", "url", "--libpq").stdout.strip()

    def __call__(self, *words, status=0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FACET_HOME", str(self.home))
            patch.setenv("COLUMNS", "200")
            settings.cache_clear()
            done = CliRunner().invoke(app, [str(word) for word in words])
        settings.cache_clear()
        if isinstance(done.exception, FacetError | DatabaseError):
            found = SimpleNamespace(
                stdout=done.stdout, stderr=f"{done.exception}", returncode=1 + isinstance(done.exception, UsageError)
            )
        else:
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
            found = SimpleNamespace(stdout=done.stdout, stderr=done.stderr, returncode=done.exit_code)
        assert found.returncode == status, (words, found.stdout, found.stderr)
        return found

    def rows(self, query):
        with psycopg.connect(self.address, row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()

    def value(self, query):
        (row,) = self.rows(query)
        (value,) = row.values()
        return value
