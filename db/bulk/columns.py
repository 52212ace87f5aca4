"""Bulk writing of arrays with nulls, texts and codes: rows of a table by binary COPY, without an object for each value.

`db.bulk.rows` takes rows of any kind; this takes columns, for rows that are written at a high rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.sqlalchemy import HALFVEC, Vector
from sqlalchemy import REAL, BigInteger, Boolean, Double, Integer, LargeBinary, SmallInteger, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError

from db.base import SCHEMA, Base
from db.schema import tables  # noqa: F401 - fills the metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session
    from sqlalchemy.types import TypeEngine

    Bytes = NDArray[np.uint8]

# Source: PostgreSQL's documentation of COPY (binary format), and pgvector's vector_send and halfvec_send.
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NUMBERS: Mapping[type, str] = {
    BigInteger: ">i8", Integer: ">i4", SmallInteger: ">i2", REAL: ">f4", Double: ">f8", Boolean: "?",
}  # fmt: skip
_VECTORS: Mapping[type, str] = {Vector: ">f4", HALFVEC: ">f2"}
_JSONB_VERSION = b"\1"
_NULL = 0xFF  # every byte of the length -1


@dataclass(frozen=True, slots=True, eq=False)
class Nullable:
    """N values, some of them null."""

    values: NDArray[Any]
    """(N, ...); those that are null are not read."""
    valid: NDArray[np.bool_]
    """(N,) False where null."""


Values = NDArray[Any] | Nullable | list[str | None] | int | float | str | None
"""A column: numbers (N,), vectors (N, D), 16-bit codes of a bytea (N, K), N texts or JSON; or one value for all."""


def copy_columns(session: Session, table: str, blocks: Iterable[tuple[int, Mapping[str, Values]]]) -> int:
    """Append rows to a table.

    Args:
        session: an open session; the rows belong to its transaction.
        table: its name, such as ``face``.
        blocks: counts of rows, each with the values by name of column; all blocks have the same columns in one order.

    Returns:
        The count of appended rows.

    Raises:
        sqlalchemy.exc.DBAPIError: as from any other statement of the session.
    """
    filled = [(count, columns) for count, columns in blocks if count]
    if not filled:
        return 0
    names = tuple(filled[0][1])
    body = [_rows(table, count, names, columns) for count, columns in filled]
    connection = session.connection()
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - make_engine sets no other driver
    statement = f"COPY {SCHEMA}.{table} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)".encode()
    try:
        with driver.cursor() as cursor:
            with cursor.copy(statement) as copy:
                copy.write(b"".join([_HEADER, *body, _TRAILER]))
            return cursor.rowcount
    except psycopg.Error as err:
        raise DBAPIError.instance(f"COPY {table}", None, err, psycopg.Error, dialect=connection.dialect) from err


def _rows(table: str, count: int, names: tuple[str, ...], columns: Mapping[str, Values]) -> bytes:
    """Return the bytes of a block: all fields at their greatest width beside each other, then without the padding."""
    if tuple(columns) != names:
        message = f"{table}: got columns {', '.join(columns)}, expected {', '.join(names)}"
        raise ValueError(message)
    types = _types(table)
    fields = [_field(types[name], columns[name], count) for name in names]
    width = 2 + sum(4 + field.shape[1] for field, _ in fields)
    rows, used = np.empty((count, width), np.uint8), np.ones((count, width), np.bool_)
    rows[:, :2] = np.array([len(names)], ">i2").view(np.uint8)
    at, is_padded = 2, False
    for payload, lengths in fields:
        end = at + 4 + payload.shape[1]
        if lengths is None:
            rows[:, at : at + 4] = np.array([payload.shape[1]], ">i4").view(np.uint8)
        else:
            is_padded = True
            rows[:, at : at + 4] = lengths.astype(">i4").view(np.uint8).reshape(count, 4)
            used[:, at + 4 : end] = np.arange(payload.shape[1]) < lengths[:, None]
        rows[:, at + 4 : end] = payload
        at = end
    return (rows[used] if is_padded else rows).tobytes()


_Field = tuple["Bytes", "NDArray[np.int64] | None"]
"""(N, W) bytes, padded at their ends, and (N,) lengths, -1 for null; None where all have the length W."""


def _field(kind: TypeEngine[Any], values: Values, count: int) -> _Field:
    if values is None:
        return np.zeros((count, 0), np.uint8), np.full(count, -1)
    if isinstance(values, Nullable):
        payload, lengths = _field(kind, values.values, count)
        known = np.full(count, payload.shape[1]) if lengths is None else lengths
        return payload, np.where(values.valid, known, -1)
    if isinstance(kind, Text | JSONB):
        texts = [values] * count if isinstance(values, str) else values
        return _texts(texts, _JSONB_VERSION if isinstance(kind, JSONB) else b"")  # type: ignore[arg-type]
    return _numbers(kind, values, count), None


def _texts(texts: Sequence[str | None], before: bytes) -> _Field:
    encoded = [b"" if one is None else before + one.encode() for one in texts]
    lengths = np.array([-1 if one is None else len(row) for one, row in zip(texts, encoded, strict=True)])
    width = max(int(lengths.max()), 0)
    padded = b"".join([row.ljust(width, b"\0") for row in encoded])
    return np.frombuffer(padded, np.uint8).reshape(len(texts), width), lengths


def _numbers(kind: TypeEngine[Any], values: Any, count: int) -> Bytes:
    given = np.asarray(values)
    if isinstance(kind, LargeBinary):
        return _as_bytes(given.astype(">u2"), count)
    for vector, wire in _VECTORS.items():
        if isinstance(kind, vector):
            head = np.tile(np.array([given.shape[1], 0], ">i2").view(np.uint8), (count, 1))
            return np.hstack([head, _as_bytes(given.astype(wire), count)])
    if given.ndim == 0:
        given = np.broadcast_to(given, count)
    return _as_bytes(given.astype(_wire_of(kind)), count)


def _as_bytes(values: NDArray[Any], count: int) -> Bytes:
    return np.ascontiguousarray(values).view(np.uint8).reshape(count, -1)


def _wire_of(kind: TypeEngine[Any]) -> str:
    """Return the wire type of a number; the types derive from each other, so the most special is asked for."""
    for base in type(kind).__mro__:
        if base in _NUMBERS:
            return _NUMBERS[base]
    message = f"a column of {kind!r} cannot be copied from an array; expected a number, a text, JSON or codes"
    raise TypeError(message)


@cache
def _types(table: str) -> dict[str, TypeEngine[Any]]:
    return {column.name: column.type for column in Base.metadata.tables[f"{SCHEMA}.{table}"].columns}
