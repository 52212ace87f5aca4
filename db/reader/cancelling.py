"""Ends a query whose user no longer waits for it."""

from __future__ import annotations

from contextlib import closing

from db.engine import parse_url
from db.errors import DatabaseUnreachable
from db.reader.run_query import log_in

_CANCEL = """
SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
WHERE application_name = %s AND pid <> pg_backend_pid() AND state = 'active'"""


def named(name: str) -> dict[str, str]:
    """Return the settings for ``run_query`` by which ``cancel_query`` finds the query."""
    return {"application_name": name}


def cancel_query(url: str, name: str) -> int:
    """End the statements of the queries of a name; return how many there were, 0 also where the server is away.

    A query between two statements is missed: repeat the call until the query has ended.

    Args:
        url: the address that the query was run with: a user may cancel only statements of its own.
        name: as in ``named``; no other query has it.
    """
    try:
        with closing(log_in(parse_url(url))) as connection:
            row = connection.execute(_CANCEL, (name,)).fetchone()
    except DatabaseUnreachable:
        return 0
    return 0 if row is None else int(row[0])
