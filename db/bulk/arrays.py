"""Whole columns by binary COPY: a million embeddings are read as arrays, without a Python object for each number."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import psycopg
from sqlalchemy.exc import DBAPIError

from db.base import EMBEDDING_DIMENSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

ColumnType = Literal[
    "bigint", "integer", "smallint", "real", "double precision", "boolean", "vector", "halfvec"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class RealArray:
    """A column of real[] with the same count of elements in every row, none of them null; it is only read."""

    length: int


@dataclass(frozen=True, slots=True)
class Codes:
    """A column of bytea with the same count of 16-bit codes in every row (``db.bulk.codes``), none of them null."""

    length: int
    """Codes of a row, two bytes each."""


AnyType = ColumnType | RealArray | Codes

BLOCK_ROWS = 50_000  # rows in one block: 28 MB with an embedding

# Source: PostgreSQL's documentation of COPY (binary format), its array_send, and pgvector's vector_send and
# halfvec_send: int16 dimension, int16 unused, float4 or float2 each.
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_WIRE: Mapping[ColumnType, str] = {
    "bigint": ">i8", "integer": ">i4", "smallint": ">i2", "real": ">f4", "double precision": ">f8", "boolean": "?",
}  # fmt: skip
_NATIVE: Mapping[ColumnType, str] = {
    "bigint": "<i8", "integer": "<i4", "smallint": "<i2", "real": "<f4", "double precision": "<f8", "boolean": "?",
}  # fmt: skip
_VECTORS: Mapping[ColumnType, str] = {"vector": ">f4", "halfvec": ">f2"}


def read_blocks(
    session: Session,
    query: str,
    columns: Mapping[str, AnyType],
    parameters: Mapping[str, object] | None = None,
) -> Iterator[NDArray[Any]]:
    """Read the rows of a query, block by block.

    Args:
        session: an open session; the rows are those its transaction sees.
        query: a SELECT with ``%(name)s`` for parameters, whose columns are of these types and never null.
        columns: names and types, in the order of the query.
        parameters: values by name.

    Yields:
        Structured arrays with a field for each column, some BLOCK_ROWS rows; ``vector`` and ``halfvec`` are
        (N, 128) float32, `RealArray` (N, length) float32 and `Codes` (N, length) uint16. A query that finds nothing
        gives one empty array.

    Raises:
        ValueError: a column is null, or a vector or an array has another length.
        sqlalchemy.exc.DBAPIError: as from any other statement of the session.
    """
    wire = wire_format(columns)
    found = False
    for rows in _cut(_chunks(session, query, parameters), wire.itemsize):
        found = True
        yield _native(np.frombuffer(rows, wire), columns)
    if not found:
        yield _native(np.zeros(0, wire), columns)


def read_rows(
    session: Session,
    query: str,
    columns: Mapping[str, AnyType],
    parameters: Mapping[str, object] | None = None,
) -> NDArray[Any]:
    """Read the rows of a query at once; as `read_blocks`."""
    return np.concatenate(list(read_blocks(session, query, columns, parameters)))


def write_rows(
    session: Session, table: str, columns: Mapping[str, ColumnType | Codes], rows: Mapping[str, NDArray[Any]]
) -> None:
    """Append rows to a table.

    Args:
        session: an open session; the rows belong to its transaction.
        table: its name, as SQL writes it.
        columns: names and types.
        rows: by name, (N,) or, of vectors, (N, 128) and, of `Codes`, (N, length).

    Raises:
        sqlalchemy.exc.DBAPIError: as from any other statement of the session.
    """
    wire = np.zeros(len(next(iter(rows.values()))), wire_format(columns))
    wire["columns"] = len(columns)
    for name, kind in columns.items():
        wire[f"{name}:size"] = wire.dtype[name].itemsize
        if kind in _VECTORS:
            wire[name]["dimension"] = EMBEDDING_DIMENSION
            wire[name]["values"] = rows[name]
        else:
            wire[name] = rows[name]
    try:
        with (
            _driver(session).cursor() as cursor,
            cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)".encode()) as copy,
        ):
            copy.write(_HEADER + wire.tobytes() + _TRAILER)
    except psycopg.Error as err:
        raise _as_sqlalchemy(session, table, err) from err


def wire_format(columns: Mapping[str, AnyType]) -> np.dtype[np.void]:
    """Return the layout of a row in PostgreSQL's binary COPY: the number of columns, then each with its size."""
    fields: list[Any] = [("columns", ">i2")]
    for name, kind in columns.items():
        wire = _wire_of(kind)
        fields += [(f"{name}:size", ">i4"), (name, *wire) if isinstance(wire, tuple) else (name, wire)]
    return np.dtype(fields)


def _wire_of(kind: AnyType) -> Any:
    if isinstance(kind, RealArray):
        element = [("size", ">i4"), ("value", ">f4")]
        head = [(name, ">i4") for name in ("dimensions", "has_nulls", "type", "length", "first")]
        return [*head, ("elements", element, (kind.length,))]
    if isinstance(kind, Codes):
        return ">u2", (kind.length,)
    return _WIRE.get(kind) or [
        ("dimension", ">i2"), ("unused", ">i2"), ("values", _VECTORS[kind], (EMBEDDING_DIMENSION,)),
    ]  # fmt: skip


def _row_type(columns: Mapping[str, AnyType]) -> np.dtype[np.void]:
    return np.dtype([(name, *_native_of(kind)) for name, kind in columns.items()])


def _native_of(kind: AnyType) -> tuple[Any, ...]:
    if isinstance(kind, RealArray):
        return "<f4", (kind.length,)
    if isinstance(kind, Codes):
        return "<u2", (kind.length,)
    return (_NATIVE[kind],) if kind in _NATIVE else ("<f4", (EMBEDDING_DIMENSION,))


def _native(wire: NDArray[Any], columns: Mapping[str, AnyType]) -> NDArray[Any]:
    rows = np.empty(len(wire), _row_type(columns))
    for name, kind in columns.items():
        if (wire[f"{name}:size"] != wire.dtype[name].itemsize).any():
            raise ValueError(f"column {name} is null or of another length; expected {wire.dtype[name].itemsize} bytes")
        if isinstance(kind, RealArray):
            rows[name] = wire[name]["elements"]["value"]
        else:
            rows[name] = wire[name]["values"] if kind in _VECTORS else wire[name]
    return rows


def _chunks(session: Session, query: str, parameters: Mapping[str, object] | None) -> Iterator[bytes]:
    """Yield the bytes of the rows and of the trailer."""
    try:
        with (
            _driver(session).cursor() as cursor,
            cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)".encode(), parameters) as copy,
        ):
            chunks = iter(copy)
            yield bytes(next(chunks))[len(_HEADER) :]  # the header, alone or before the first row
            yield from map(bytes, chunks)
    except psycopg.Error as err:
        raise _as_sqlalchemy(session, query, err) from err


def _cut(chunks: Iterator[bytes], row_bytes: int) -> Iterator[bytes]:
    """Join chunks, mostly one row each, to blocks of rows, without the trailer."""
    while waiting := list(islice(chunks, BLOCK_ROWS)):
        joined = b"".join(waiting)
        if len(joined) % row_bytes == len(_TRAILER):
            joined = joined.removesuffix(_TRAILER)
        if len(joined) % row_bytes:
            raise ValueError(f"{len(joined)} bytes are no rows of {row_bytes}: a column is null or of another length")
        if joined:
            yield joined


def _driver(session: Session) -> psycopg.Connection[Any]:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - make_engine sets no other driver
    return driver


def _as_sqlalchemy(session: Session, statement: str, err: psycopg.Error) -> BaseException:
    dialect = session.connection().dialect
    return DBAPIError.instance(f"COPY {statement}", None, err, psycopg.Error, dialect=dialect)
