"""Rows for other programs: CSV, JSON and Parquet, streamed, so that a million rows do not fill memory."""

from __future__ import annotations

import csv
import itertools
import json
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from db.reader.run_query import DOCUMENT_TYPES
from worker.errors import FacetError
from worker.pictures.exports.json_text import json_value, number, to_json
from worker.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from db.reader.run_query import QueryResult

PARQUET_ROWS = 20_000  # per row group

ARROW_TYPES = {
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "numeric": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "interval": pa.duration("us"),
    "uuid": pa.string(),
    "_bool": pa.list_(pa.bool_()),
    "_int2": pa.list_(pa.int16()),
    "_numeric": pa.list_(pa.float64()),
    "_date": pa.list_(pa.date32()),
    "_timestamp": pa.list_(pa.timestamp("us")),
    "_timestamptz": pa.list_(pa.timestamp("us", tz="UTC")),
    "_varchar": pa.list_(pa.string()),
    "_float4": pa.list_(pa.float32()),
    "_float8": pa.list_(pa.float64()),
    "_int4": pa.list_(pa.int32()),
    "_int8": pa.list_(pa.int64()),
    "_text": pa.list_(pa.string()),
    "vector": pa.list_(pa.float32()),
    "halfvec": pa.list_(pa.float32()),
}
"""By PostgreSQL type name; documents get the type of their content, and every other type becomes text."""


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Text that begins so is a formula to a spreadsheet; the last four are the same signs in full width."""


def unique_names(columns: Sequence[str]) -> list[str]:
    """Return unique names: a second ``media_id`` becomes ``media_id_2``."""
    given, unique = set(columns), list[str]()
    for name in columns:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        free = (other for other in numbered if other not in given and other not in unique)
        unique.append(next(free) if name in unique else name)
    return unique


def write_csv(result: QueryResult, stream: IO[str], *, spreadsheet: bool = False) -> None:
    """Write rows with a header; vectors, arrays and documents as JSON.

    Args:
        result: the rows.
        stream: text is written to it; on a terminal, control characters are shown as escapes.
        spreadsheet: put an apostrophe before text that a spreadsheet would run as a formula.
    """
    writer = csv.writer(stream)
    shown = visible if stream.isatty() else str
    prepared = _no_formula if spreadsheet else str

    def cells(values: Sequence[object]) -> list[object]:
        plain = (_csv_cell(value) for value in values)
        return [shown(prepared(value)) if isinstance(value, str) else value for value in plain]

    writer.writerow(cells(result.columns))
    for row in result:
        writer.writerow(cells(row))


def _no_formula(text: str) -> str:
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_STARTS) else text


def _csv_cell(value: object) -> object:
    if isinstance(value, float | Decimal):
        return number(value)
    plain = json_value(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else plain


def write_json(result: QueryResult, stream: IO[str]) -> None:
    """Write an array of objects; columns of one name are numbered, numbers that JSON lacks become strings."""
    names = unique_names(result.columns)
    stream.write("[")
    for count, row in enumerate(result):
        stream.write(",\n " if count else "\n ")
        stream.write(to_json(dict(zip(names, row, strict=True))))
    stream.write("\n]\n")


def write_parquet(result: QueryResult, path: Path) -> None:
    """Write a Parquet file with the columns' own types; columns of one name are numbered.

    Documents become structs and lists, of the type that those of the first row group have together.

    Raises:
        FacetError: the file cannot be written, or a later document is of another type.
    """
    batches = _batches(result)
    first = next(batches, [])
    schema = _schema(result, first)
    try:
        with parquet.ParquetWriter(path, schema) as writer:
            for batch in itertools.chain([first] if first else [], batches):
                writer.write_batch(_record_batch(batch, schema))
    except OSError as err:
        raise FacetError(f"{path} cannot be written: {err.strerror or err}") from err


def arrow_table(result: QueryResult) -> pa.Table:
    """Return all rows as a table with the columns' own types; columns of one name are numbered.

    Documents become structs and lists where all of them agree in a type, else text.
    """
    batches = list(_batches(result))
    schema = _schema(result, list(itertools.chain.from_iterable(batches)))
    return pa.Table.from_batches([_record_batch(batch, schema) for batch in batches], schema)


def _schema(result: QueryResult, first: Sequence[Sequence[object]]) -> pa.Schema:
    """Return the schema of rows; the types of documents are those of the first row group."""
    types = [_arrow_type(name, [row[index] for row in first]) for index, name in enumerate(result.types)]
    return pa.schema(list(zip(unique_names(result.columns), types, strict=True)))


def _arrow_type(name: str, values: Sequence[object]) -> pa.DataType:
    """Return the type of a column; that of documents is read from their content, text where they agree in none."""
    if name not in DOCUMENT_TYPES:
        return ARROW_TYPES.get(name, pa.string())
    try:
        found = pa.infer_type([_plain(value) for value in values])
    except pa.ArrowInvalid:
        return pa.string()
    return pa.string() if pa.types.is_null(found) or _has_empty(found) else found


def _has_empty(kind: pa.DataType) -> bool:
    """Whether a type holds a struct without fields, which Parquet cannot store."""
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_has_empty(field.type) for field in kind)
    return pa.types.is_list(kind) and _has_empty(kind.value_type)


def _plain(value: object) -> object:
    """Return a document with all numbers of one kind: 1 and 0.5 in one list are both floats."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _batches(result: QueryResult) -> Iterator[list[tuple[Any, ...]]]:
    rows = iter(result)
    while batch := list(itertools.islice(rows, PARQUET_ROWS)):
        yield batch


def _record_batch(rows: Sequence[Sequence[object]], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for index, field in enumerate(schema):
        values = [_arrow_cell(row[index], field.type) for row in rows]
        if pa.types.is_nested(field.type):
            _check_documents(field, values)
        columns.append(pa.array(values, field.type))
    return pa.record_batch(columns, schema=schema)


def _check_documents(field: pa.Field, values: Sequence[object]) -> None:
    """Refuse documents with keys that those of the first row group lack: they would be lost.

    Raises:
        FacetError: there is one.
    """
    if not pa.types.is_struct(field.type):
        return
    known = {each.name for each in field.type}
    for value in values:
        if isinstance(value, dict) and not value.keys() <= known:
            other = min(value.keys() - known)
            raise FacetError(
                f"the column {field.name} has a document with {other!r}, which the first {PARQUET_ROWS:,} lack; "
                f"write it as text: {field.name}::text"
            )


def _arrow_cell(value: object, kind: pa.DataType) -> object:
    if isinstance(value, dict):
        return _plain(value) if pa.types.is_struct(kind) else json.dumps(json_value(value), ensure_ascii=False)
    if pa.types.is_string(kind) and value is not None and not isinstance(value, str):
        plain = json_value(value)
        return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else str(plain)
    if isinstance(value, Decimal):
        return float(value)
    return value.tolist() if hasattr(value, "tolist") else value
