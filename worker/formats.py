"""Rows for other programs: CSV, JSON and Parquet, streamed, so that a million rows do not fill memory."""

from __future__ import annotations

import csv
import itertools
import json
from datetime import date, datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from worker.errors import FacetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from db.reader import QueryResult

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
    "_float4": pa.list_(pa.float32()),
    "_float8": pa.list_(pa.float64()),
    "_int4": pa.list_(pa.int32()),
    "_int8": pa.list_(pa.int64()),
    "_text": pa.list_(pa.string()),
    "vector": pa.list_(pa.float32()),
}
"""By PostgreSQL type name; every other type, jsonb among them, becomes text."""


def write_csv(result: QueryResult, stream: IO[str]) -> None:
    """Write rows with a header; vectors, arrays and documents as JSON."""
    writer = csv.writer(stream)
    writer.writerow(result.columns)
    for row in result:
        writer.writerow([_csv_cell(value) for value in row])


def _csv_cell(value: object) -> object:
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else plain


def write_json(result: QueryResult, stream: IO[str]) -> None:
    """Write an array of objects."""
    stream.write("[")
    for number, row in enumerate(result):
        stream.write(",\n " if number else "\n ")
        document = {name: _plain(value) for name, value in zip(result.columns, row, strict=True)}
        json.dump(document, stream, ensure_ascii=False)
    stream.write("\n]\n")


def write_parquet(result: QueryResult, path: Path) -> None:
    """Write a Parquet file with the columns' own types.

    Raises:
        FacetError: the file cannot be written.
    """
    types = [ARROW_TYPES.get(name, pa.string()) for name in result.types]
    schema = pa.schema(list(zip(result.columns, types, strict=True)))
    try:
        with parquet.ParquetWriter(path, schema) as writer:
            for batch in _batches(result):
                writer.write_batch(_record_batch(batch, schema))
    except OSError as err:
        raise FacetError(f"{path} cannot be written: {err.strerror or err}") from err


def _batches(result: QueryResult) -> Iterator[list[tuple[Any, ...]]]:
    rows = iter(result)
    while batch := list(itertools.islice(rows, PARQUET_ROWS)):
        yield batch


def _record_batch(rows: Sequence[Sequence[object]], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for index, field in enumerate(schema):
        values = [_arrow_cell(row[index], field.type) for row in rows]
        columns.append(pa.array(values, field.type))
    return pa.record_batch(columns, schema=schema)


def _arrow_cell(value: object, kind: pa.DataType) -> object:
    if pa.types.is_string(kind) and value is not None and not isinstance(value, str):
        plain = _plain(value)
        return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else str(plain)
    if isinstance(value, Decimal):
        return float(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _plain(value: object) -> object:
    """Give a value as JSON knows it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if hasattr(value, "to_list"):
        return value.to_list()
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, str | int | float | bool | dict | list) or value is None:
        return value
    return str(value)
