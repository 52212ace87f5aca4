from __future__ import annotations

import re
from pathlib import Path

import pytest

from db.reader.questions import read_questions
from db.reader.run_query import run_query
from db.schema.views import VIEWS
from worker.releases.diff.questions import questions

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "sql.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^### (.+)\n(?:(?!^#).*\n)*?```sql\n", PAGE, re.MULTILINE)
CLOUD_PAGE = (DOCS / "coming-from-a-cloud-service.md").read_text(encoding="utf-8")
QUERIES = [query for page in (PAGE, CLOUD_PAGE) for query in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)]
NAMED_COLUMNS = re.findall(r"`(faces|appearances|people|media|scenes)\.(\w+)`", CLOUD_PAGE)

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), col_description(a.attrelid, a.attnum)
FROM pg_attribute AS a WHERE a.attrelid = %s::regclass AND a.attnum > 0 ORDER BY a.attnum
"""


def ask(url, query, parameters=None):
    with run_query(url, query, parameters=parameters, timeout_seconds=30) as result:
        return list(result)


def test_the_page_answers_many_questions():
    assert len(QUESTIONS) >= 14
    assert len(QUERIES) >= len(QUESTIONS)


def test_the_page_shows_the_questions_of_the_program_with_their_usual_values():
    assert [one.title for one in read_questions()] == QUESTIONS
    assert [one.sql() for one in read_questions() if asked_on_the_page(one.title) != one.sql()] == []


def test_a_comparison_of_releases_asks_questions_of_the_page():
    assert len(questions()) >= 8
    assert questions().keys() <= set(QUESTIONS)


def asked_on_the_page(title):
    """Return the query below a heading of the page."""
    return PAGE.partition(f"### {title}\n")[2].partition("```sql\n")[2].partition(";\n```")[0]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: " ".join(query.split())[:60])
def test_every_query_of_the_page_finds_rows(archive_url, query):
    assert ask(archive_url, query)


def test_the_page_for_other_services_names_columns_that_exist(archive_url):
    assert len(set(NAMED_COLUMNS)) > 15
    found = {(view, name) for view in VIEWS for name, *_ in ask(archive_url, COLUMNS, (f"facet.{view}",))}
    assert set(NAMED_COLUMNS) - found == set()


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_and_column_has_a_comment_and_the_page_says_the_same(archive_url, view):
    [(comment,)] = ask(archive_url, "SELECT obj_description(%s::regclass)", (f"facet.{view}",))
    rows = [f"| `{name}` | {kind} | {words} |" for name, kind, words in ask(archive_url, COLUMNS, (f"facet.{view}",))]
    expected = f"### {view}\n\n{comment}\n\n| column | type | |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    assert comment
    assert not any("None |" in row for row in rows)
    assert expected in PAGE, f"docs/sql.md must hold:\n{expected}"
