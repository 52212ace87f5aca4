"""Bulk writing: ids in blocks from the sequences, rows by binary COPY, in the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from pgvector import HalfVector, Vector
from pgvector.psycopg.halfvec import HalfVectorBinaryDumper
from pgvector.psycopg.vector import VectorBinaryDumper
from pgvector.sqlalchemy import HALFVEC
from pgvector.sqlalchemy import Vector as VectorType
from psycopg import sql
from psycopg.types import TypeInfo
from psycopg.types.json import Jsonb
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

from db.base import SCHEMA, Base
from db.schema import tables  # noqa: F401 - fills the metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Column, Connection, Dialect, Table
    from sqlalchemy.orm import Session

# Types of pgvector by their names: the type of a column, the value that is copied, and its binary form.
_VECTOR_TYPES = {
    "vector": (VectorType, Vector, VectorBinaryDumper),
    "halfvec": (HALFVEC, HalfVector, HalfVectorBinaryDumper),
}


def allocate_ids(session: Session, table: str, count: int) -> list[int]:
    """Allocate ids for rows that are about to be copied; ids of an undone transaction are not reused.

    Args:
        session: an open session.
        table: name of the table, such as ``face``.
        count: how many.

    Returns:
        Ascending ids; they may have gaps, because other processes allocate ids at the same time.
    """
    if count == 0:
        return []
    key = next(iter(_table(table).primary_key.columns)).name
    statement = text("SELECT nextval(pg_get_serial_sequence(:table, :key)) FROM generate_series(1, :count)")
    return list(session.scalars(statement, {"table": f"{SCHEMA}.{table}", "key": key, "count": count}))


def copy_rows(session: Session, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Append rows to a table.

    Args:
        session: an open session; the rows belong to its transaction.
        table: name of the table, such as ``face``.
        columns: names of the columns, in the order of each row's values.
        rows: values by type of column: lists of floats for arrays, NumPy arrays (128,) float32 for embeddings (in 16
            bits a number, too), bytes for codes (``db.bulk.codes``), dicts or JSON text for jsonb, None for null.

    Returns:
        The count of appended rows.

    Raises:
        sqlalchemy.exc.DBAPIError: as from any other statement of the session.
    """
    connection = session.connection()
    target = [_table(table).columns[name] for name in columns]
    converters = [(place, _CONVERTERS[type(column.type)]) for place, column in enumerate(target) if _converts(column)]
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(SCHEMA, table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    types = [_type_name(column, connection.dialect) for column in target]
    try:
        return _copy(connection, statement, types, _converted(rows, converters))
    except psycopg.Error as err:
        raise DBAPIError.instance(f"COPY {table}", None, err, psycopg.Error, dialect=connection.dialect) from err


def _copy(connection: Connection, statement: sql.Composed, types: list[str], rows: Iterable[Sequence[Any]]) -> int:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - make_engine sets no other driver
    with driver.cursor() as cursor:
        for name in _VECTOR_TYPES.keys() & set(types):
            _register_vector(cursor, connection, name)
        with cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
        return cursor.rowcount


def _register_vector(cursor: psycopg.Cursor[Any], connection: Connection, name: str) -> None:
    """Register a vector type for one cursor; the connection returns vectors as before."""
    key = f"facet.{name}"
    info = connection.info.get(key)
    if info is None:
        info = connection.info[key] = TypeInfo.fetch(cursor.connection, name)
    if info is None:
        raise psycopg.ProgrammingError(f"type {name} not found; expected the extension pgvector, 0.7 or newer")
    info.register(cursor)
    _, value, dumper = _VECTOR_TYPES[name]
    cursor.adapters.register_dumper(value, type("VectorDumper", (dumper,), {"oid": info.oid}))


def _table(name: str) -> Table:
    return Base.metadata.tables[f"{SCHEMA}.{name}"]


def _type_name(column: Column[Any], dialect: Dialect) -> str:
    names = [name for name, (kind, _, _) in _VECTOR_TYPES.items() if isinstance(column.type, kind)]
    return names[0] if names else column.type.compile(dialect).lower()


def _json(value: Any) -> Jsonb:
    return Jsonb(value, dumps=_as_is) if isinstance(value, str) else Jsonb(value)


def _as_is(value: str) -> str:
    return value


_CONVERTERS: dict[type, Callable[[Any], Any]] = {JSONB: _json, VectorType: Vector, HALFVEC: HalfVector}


def _converts(column: Column[Any]) -> bool:
    return type(column.type) in _CONVERTERS


def _converted(
    rows: Iterable[Sequence[Any]], converters: list[tuple[int, Callable[[Any], Any]]]
) -> Iterable[Sequence[Any]]:
    if not converters:
        yield from rows
        return
    for row in rows:
        values = list(row)
        for place, convert in converters:
            if values[place] is not None:
                values[place] = convert(values[place])
        yield values
