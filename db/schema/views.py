"""Installs the views that users query; their SQL is in ``db/schema/views.sql``.

Views hold no data, so they have no migrations: when their text changes, ``facet db upgrade`` replaces them. The hash of
the text is stored as the comment of the schema.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from db.base import SCHEMA
from db.schema.roles import grant_roles

if TYPE_CHECKING:
    from sqlalchemy import Connection

VIEWS = (
    "releases", "media", "files", "scenes", "jobs", "faces", "face_attributes", "appearances", "counted_people",
    "people", "corrections", "predictions", "probabilities", "release_predictions", "release_changes", "release_drift",
    "release_faces", "release_appearances", "schedules",
)  # fmt: skip
# Parts of the others, which only the program may read.
INTERNAL_VIEWS = (
    "active_reading", "reading_key", "person_share", "person_vote", "person_recount", "person_reading_recount",
    "person_candidate",
)  # fmt: skip
# The functions with which the views decode codes, and one for users. A reader may execute them.
FUNCTIONS = (
    "decode_landmarks", "decode_logit", "decode_probability", "decode_attributes", "decode_probabilities",
    "schema_version",
)  # fmt: skip
REPLACED_TOO_MUCH = "42P16"  # PostgreSQL's code for a view whose columns would be dropped or change their type
_REVISION = f"SELECT version_num FROM {SCHEMA}.alembic_version"  # noqa: S608 - a constant name
_SQL_FILE = Path(__file__).with_name("views.sql")


@cache
def views_sql() -> str:
    """Return the statements that create the views and their comments."""
    return _SQL_FILE.read_text(encoding="utf-8")


def fingerprint() -> str:
    """Return the comment of the schema that the views of this program have."""
    return f"Facet; views {hashlib.sha256(views_sql().encode()).hexdigest()[:16]}"


def create_views(connection: Connection) -> None:
    """Create or replace all views, with comments and the reader's privileges.

    Views of users that read these stay, unless a column is dropped or renamed: then users have to drop theirs first.

    Args:
        connection: an open connection; the caller commits.
    """
    statements = views_sql().replace("%", "%%")  # the driver reads % as a parameter
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statements)
    except ProgrammingError as err:
        if getattr(err.orig, "sqlstate", None) != REPLACED_TOO_MUCH:
            raise
        drop_views(connection)
        connection.exec_driver_sql(statements)
    _create_version(connection)
    connection.exec_driver_sql(f"COMMENT ON SCHEMA {SCHEMA} IS '{fingerprint()}'")
    grant_roles(connection, VIEWS)


def _create_version(connection: Connection) -> None:
    """Create the function that returns the revision of the tables, for programs that query the views.

    Its body is the revision itself: readers may not read the table of Alembic.
    """
    revision = connection.execute(text(_REVISION)).scalar_one()
    connection.exec_driver_sql(
        f"CREATE OR REPLACE FUNCTION {SCHEMA}.schema_version() RETURNS text "
        f"LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN '{revision}'"
    )
    connection.exec_driver_sql(
        f"COMMENT ON FUNCTION {SCHEMA}.schema_version() IS 'Revision of the tables, as facet db upgrade prints it.'"
    )


def drop_views(connection: Connection) -> None:
    """Drop all views and their functions; a migration that changes one of their columns calls this first.

    Args:
        connection: an open connection; the caller commits.
    """
    views = ", ".join(f"{SCHEMA}.{view}" for view in (*VIEWS, *INTERNAL_VIEWS))
    connection.exec_driver_sql(f"DROP VIEW IF EXISTS {views}")
    for function in reversed(FUNCTIONS):
        connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {SCHEMA}.{function}")


def views_are_current(connection: Connection) -> bool:
    """Return whether the database's views are those of this program.

    Args:
        connection: an open connection.
    """
    found = connection.execute(text("SELECT obj_description(to_regnamespace(:name), 'pg_namespace')"), {"name": SCHEMA})
    return found.scalar() == fingerprint()
