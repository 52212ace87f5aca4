"""The index of appearances by embedding: optional, approximate, for archives where reading every row takes long.

It is not created with the tables: an archive of some hundred thousand appearances is searched exactly in a moment, and
an index would slow down the storing of every unit. Faces never get one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from db.base import EMBEDDING_DIMENSION, SCHEMA
from db.engine import make_engine

if TYPE_CHECKING:
    from sqlalchemy import Connection

INDEX = "ix_appearance_embedding"
NEIGHBOURS = 16  # links of each row on each level: pgvector's default
BUILD_CANDIDATES = 128  # rows read to link a new one: twice pgvector's default, for recall (docs/measured/search.md)
BUILD_MEMORY = "1GB"  # a million rows need 0.6 GB; with less the build is many times slower

# Returns whether a complete index exists.
INDEX_READY = f"""
SELECT EXISTS (
    SELECT FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = '{SCHEMA}' AND c.relname = '{INDEX}' AND i.indisvalid
)
"""  # noqa: S608 - constant names


def build_index(url: str) -> None:
    """Build the index while other programs read and write; an incomplete one is replaced, a complete one stays.

    Args:
        url: address of the database, as the owner of the tables.
    """
    engine = make_engine(url)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if connection.execute(text(INDEX_READY)).scalar_one():
                return
            connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{INDEX}"))
            connection.execute(text(f"SET maintenance_work_mem = '{BUILD_MEMORY}'"))
            connection.execute(text(_create(connection)))
    finally:
        engine.dispose()


def drop_index(url: str) -> None:
    """Drop the index: searches are exact again.

    Args:
        url: address of the database, as the owner of the tables.
    """
    engine = make_engine(url)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{INDEX}"))
    finally:
        engine.dispose()


def _create(connection: Connection) -> str:
    """Return the statement, over the expression that the view ``appearances`` shows.

    The type and the operator class are in the schema of the extension.
    """
    schema = connection.execute(
        text("SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'")
    ).scalar_one()
    return (
        f"CREATE INDEX CONCURRENTLY {INDEX} ON {SCHEMA}.appearance "
        f"USING hnsw ((embedding::{schema}.vector({EMBEDDING_DIMENSION})) {schema}.vector_ip_ops) "
        f"WITH (m = {NEIGHBOURS}, ef_construction = {BUILD_CANDIDATES})"
    )
