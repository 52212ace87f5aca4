"""Descriptions of the views, from the comments of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.reader.run_query import run_query
from db.schema.views import VIEWS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from db.reader.run_query import QueryResult

_VIEWS = """
SELECT v.name AS view, obj_description(to_regclass('facet.' || v.name)) AS description
FROM unnest(%s::text[]) WITH ORDINALITY AS v (name, place)
ORDER BY v.place
"""
_COLUMNS = """
SELECT
    a.attname AS column,
    format_type(a.atttypid, a.atttypmod) AS type,
    col_description(a.attrelid, a.attnum) AS description
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass('facet.' || quote_ident(%s)) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_NAMES = """
SELECT DISTINCT a.attname::text
FROM unnest(%s::text[]) AS v
JOIN pg_attribute AS a ON a.attrelid = to_regclass('facet.' || v) AND a.attnum > 0
ORDER BY 1
"""


def describe_views(url: str) -> AbstractContextManager[QueryResult]:
    """Yield the views with their descriptions.

    Raises:
        DatabaseUnreachable: no connection.
    """
    return run_query(url, _VIEWS, parameters=(list(VIEWS),))


def describe_columns(url: str, view: str) -> AbstractContextManager[QueryResult]:
    """Yield the columns of a view with their types and descriptions; none where there is no such view.

    Raises:
        DatabaseUnreachable: no connection.
    """
    return run_query(url, _COLUMNS, parameters=(view,))


def read_column_names(url: str) -> list[str]:
    """Return the names of all columns of all views.

    Raises:
        DatabaseUnreachable: no connection.
    """
    with run_query(url, _NAMES, parameters=(list(VIEWS),)) as result:
        return [name for (name,) in result]
