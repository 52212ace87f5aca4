"""The roles of the database: one that may only read the views, one that may only change rows.

A third, the user of ``facet db upgrade``, owns the schema and may change tables. docs/access.md sets all three up.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.base import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

logger = logging.getLogger(__name__)

READER = "facet_reader"  # may SELECT from the views and nothing else
WORKER = "facet_worker"  # may change rows of the tables, but no table

# Roles belong to the whole server: another database's migration may create the same one at the same moment.
_CREATE_ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

# A user who may create a role may not yet become it (PostgreSQL 16), but may grant it; a superuser may do both.
_JOIN_READER = f"""
DO $$ BEGIN
    IF NOT pg_has_role(
        current_user,
        '{READER}',
        CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
    ) THEN
        EXECUTE format('GRANT {READER} TO %I', current_user);
    END IF;
END $$
"""

_GRANTS = (
    f"GRANT USAGE ON SCHEMA {SCHEMA} TO {READER}, {WORKER}",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {WORKER}",
    f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {SCHEMA} TO {WORKER}",
    f"REVOKE INSERT, UPDATE, DELETE ON {SCHEMA}.alembic_version FROM {WORKER}",
    # Views call functions as the user who reads them.
    f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {SCHEMA} TO {READER}, {WORKER}",
)

_HAS_SEARCH_PATH = """
SELECT EXISTS (
    SELECT FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase AND s.setrole = 0,
        unnest(s.setconfig) AS setting
    WHERE d.datname = current_database() AND setting LIKE 'search_path=%'
)
"""

# At the end of the path, so that other programs in a shared database still find their own tables; not set at all where
# an administrator has set a path.
_SEARCH_PATH = f"""
DO $$ BEGIN
    IF NOT ({_HAS_SEARCH_PATH}) THEN
        EXECUTE format('ALTER DATABASE %I SET search_path = "$user", public, {SCHEMA}', current_database());
    END IF;
END $$
"""


# A dump without --create loses the path of the database. That of a role is saved by pg_dumpall, so readers find the
# views in a restored database before it is upgraded. It takes precedence, so an administrator's path stands alone.
_READER_PATH = f"""
DO $$ DECLARE reader name; BEGIN
    IF EXISTS (
        SELECT FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase AND s.setrole = 0,
            unnest(s.setconfig) AS setting
        WHERE d.datname = current_database() AND setting LIKE 'search_path=%'
            AND setting <> 'search_path="$user", public, {SCHEMA}'
    ) THEN RETURN; END IF;
    FOR reader IN
        SELECT r.rolname FROM pg_roles AS r
        WHERE NOT r.rolsuper AND pg_has_role(r.oid, to_regrole('{READER}'), 'MEMBER') AND NOT EXISTS (
            SELECT FROM pg_db_role_setting AS s, unnest(s.setconfig) AS setting
            WHERE s.setrole = r.oid AND s.setdatabase = 0 AND setting LIKE 'search_path=%'
        )
    LOOP
        BEGIN
            EXECUTE format('ALTER ROLE %I SET search_path = "$user", public, {SCHEMA}', reader);
        EXCEPTION WHEN insufficient_privilege OR internal_error THEN NULL;  -- the latter: another upgrade alters it now
        END;
    END LOOP;
END $$
"""  # noqa: S608 - constant names

# Limits of a login as the reader, unless an administrator set others. Queries set their own timeout.
LIMITS = {
    "statement_timeout": "10min",
    "idle_in_transaction_session_timeout": "10min",  # an old snapshot keeps dead rows
    "default_transaction_read_only": "on",
    "work_mem": "64MB",
    "enable_memoize": "off",  # see db.reader.run_query.RESOURCES
    "join_collapse_limit": "11",
    "from_collapse_limit": "11",
    "cpu_operator_cost": "0.005",
    "temp_file_limit": "10GB",  # of one session; may be set by a superuser alone
}

_SET_FOR_READER = f"""
SELECT split_part(setting, '=', 1) FROM pg_db_role_setting AS s, unnest(s.setconfig) AS setting
WHERE s.setrole = to_regrole('{READER}')
    AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""  # noqa: S608 - constant names

_MISSING_ROLES = f"""
SELECT role FROM unnest(ARRAY['{READER}', '{WORKER}']) AS role WHERE to_regrole(role) IS NULL
"""  # noqa: S608 - constant names
_UNREADABLE = f"""
SELECT view FROM unnest(cast(:views AS text[])) AS view
WHERE NOT has_schema_privilege('{READER}', '{SCHEMA}', 'USAGE')
    OR NOT has_table_privilege('{READER}', format('{SCHEMA}.%I', view), 'SELECT')
UNION ALL
SELECT p.proname FROM pg_proc AS p
WHERE p.pronamespace = '{SCHEMA}'::regnamespace AND NOT has_function_privilege('{READER}', p.oid, 'EXECUTE')
"""  # noqa: S608 - constant names
_UNWRITABLE = f"""
SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = '{SCHEMA}'::regnamespace AND c.relkind IN ('r', 'S') AND c.relname <> 'alembic_version' AND (
    NOT has_schema_privilege('{WORKER}', c.relnamespace, 'USAGE')
    OR CASE c.relkind
        WHEN 'S' THEN NOT has_sequence_privilege('{WORKER}', c.oid, 'USAGE')
        ELSE EXISTS (
            SELECT FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
            WHERE NOT has_table_privilege('{WORKER}', c.oid, privilege)
        )
    END
)
"""  # noqa: S608 - constant names


def read_missing(connection: Connection, views: tuple[str, ...]) -> list[str]:
    """Return the missing roles, privileges and search path, each as a phrase.

    A database restored from a dump may have all rows and none of these.

    Args:
        connection: an open connection, of any user.
        views: names of the views that the reader may see.
    """
    roles = connection.scalars(text(_MISSING_ROLES)).all()
    missing = [f"the role {role}" for role in roles]
    if READER not in roles and connection.scalars(text(_UNREADABLE), {"views": list(views)}).first():
        missing.append(f"privileges of {READER} on the views")
    if WORKER not in roles and connection.scalars(text(_UNWRITABLE)).first():
        missing.append(f"privileges of {WORKER} on the tables")
    if not connection.execute(text(_HAS_SEARCH_PATH)).scalar_one():
        missing.append(f"the schema {SCHEMA} in the database's search_path")
    return missing


def read_unlimited(connection: Connection) -> list[str]:
    """Return the settings of `LIMITS` that are not set for the reader in this database.

    Args:
        connection: an open connection, of any user.
    """
    if READER in connection.scalars(text(_MISSING_ROLES)):
        return []
    found = set(connection.scalars(text(_SET_FOR_READER)))
    return [name for name in LIMITS if name not in found]


def limit_reader(connection: Connection) -> None:
    """Set the missing limits of the reader, one by one, as far as the server permits it.

    Args:
        connection: an open connection; the caller commits.
    """
    for name in read_unlimited(connection):
        alter = f"ALTER ROLE {READER} IN DATABASE %I SET {name} = %L"
        with _where_permitted(connection, "limit_reader"):
            connection.exec_driver_sql(
                f"DO $$ BEGIN EXECUTE format('{alter}', current_database(), '{LIMITS[name]}'); END $$".replace(
                    "%", "%%"
                )
            )


def create_roles(connection: Connection) -> None:
    """Create the two roles and grant the reader to the current user, where the server permits it.

    Without the roles only read-only queries fail; their error names the missing role.

    Args:
        connection: an open connection; the caller commits.
    """
    with _where_permitted(connection, "create_roles"):
        for role in (READER, WORKER):
            connection.execute(text(_CREATE_ROLE.format(role=role)))
        connection.execute(text(_JOIN_READER))


def grant_roles(connection: Connection, views: tuple[str, ...]) -> None:
    """Grant the roles their privileges on the existing tables and views.

    Args:
        connection: an open connection; the caller commits.
        views: names of the views that the reader may see.
    """
    readable = ", ".join(f"{SCHEMA}.{view}" for view in views)
    with _where_permitted(connection, "grant_roles"):
        for grant in (*_GRANTS, f"GRANT SELECT ON {readable} TO {READER}"):
            connection.execute(text(grant))


def set_search_path(connection: Connection) -> None:
    """Set the search path, so that programs find the views without their schema's name, where the server permits it.

    Args:
        connection: an open connection; the caller commits.
    """
    with _where_permitted(connection, "set_search_path"):
        connection.execute(text(_SEARCH_PATH))


def set_reader_path(connection: Connection) -> None:
    """Set the search path of the reader's role and of its members, where they have none and the server permits it.

    Args:
        connection: an open connection; the caller commits.
    """
    with _where_permitted(connection, "set_reader_path"):
        connection.exec_driver_sql(_READER_PATH.replace("%", "%%"))


@contextmanager
def _where_permitted(connection: Connection, action: str) -> Iterator[None]:
    """Run statements that a restricted user may be denied: they are then undone, and the caller goes on."""
    savepoint = connection.begin_nested()
    try:
        yield
    except DBAPIError as err:
        savepoint.rollback()
        if getattr(err.orig, "sqlstate", None) not in ("42501", "42704"):  # insufficient_privilege, undefined_object
            raise
        logger.warning("the database user may not do this", extra={"action": action, "error": str(err.orig)})
    else:
        savepoint.commit()
