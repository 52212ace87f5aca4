"""The first commands of a new user: an archive without files is said to be one, and how to begin."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from worker.cli.main import app
from worker.config import settings


@pytest.fixture
def facet(clean_database, tmp_path, monkeypatch):
    monkeypatch.setenv("FACET_DATABASE_URL", clean_database)
    monkeypatch.setenv("FACET_HOME", str(tmp_path))
    settings.cache_clear()
    yield lambda *words: CliRunner().invoke(app, words)
    settings.cache_clear()


@pytest.mark.parametrize("words", [("sql", "SELECT * FROM people"), ("status",), ("people", "list")])
def test_an_empty_result_of_an_empty_archive_says_why(facet, words):
    done = facet(*words)
    assert done.exit_code == 0, done.output
    assert "(no rows)" in done.stdout
    assert done.stderr.startswith("nothing was analysed in postgresql")
    assert "analyze FOLDER" in done.stderr


def test_an_archive_with_files_needs_no_such_words(facet, crowd):
    crowd.photo(0)
    crowd.session.commit()
    done = facet("sql", "SELECT * FROM people WHERE person_id = 999")
    assert done.exit_code == 0, done.output
    assert "(no rows)" in done.stdout
    assert "nothing was analysed" not in done.stderr
