"""All rows of an answer as a file, in the formats of ``facet sql``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db.errors import QueryError
from db.reader.cancelling import named
from db.reader.narrowing import TOO_LARGE, Narrowing, narrow_query
from db.reader.run_query import QueryResult, run_query
from worker.pictures.exports import row_formats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from worker.web.queries.answers import Asked

MAX_FILE_ROWS = 1_000_000
MAX_FILE_BYTES = 200_000_000  # of values, before a format packs them: files of downloads lie on the server for a while
MAX_FILE_SECONDS = 300.0
ALL_OF_IT = "narrow the question, or write it with `facet sql -o FILE`"


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format of a download."""

    ending: str
    media_type: str
    write: Callable[[QueryResult, Path], None]


def _write_csv(result: QueryResult, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        row_formats.write_csv(result, stream, spreadsheet=True)


def _write_json(result: QueryResult, path: Path) -> None:
    with path.open("w", encoding="utf-8") as stream:
        row_formats.write_json(result, stream)


FILE_FORMATS: Mapping[str, FileFormat] = {
    one.ending: one
    for one in (
        FileFormat("csv", "text/csv; charset=utf-8", _write_csv),
        FileFormat("json", "application/json", _write_json),
        FileFormat("parquet", "application/vnd.apache.parquet", row_formats.write_parquet),
    )
}


def write_answer(url: str, asked: Asked, form: FileFormat, path: Path) -> None:
    """Write all rows of an answer.

    Args:
        url: address of the database for readers.
        asked: the query.
        form: format of the file.
        path: of the file.

    Raises:
        QueryError: the query is refused, wrong, too slow or was cancelled, or its answer is too large.
        DatabaseUnreachable: no connection.
    """
    text = narrow_query(asked.query, Narrowing(limit=MAX_FILE_ROWS + 1, only=asked.only))
    try:
        with run_query(url, text, timeout_seconds=MAX_FILE_SECONDS, settings=named(asked.name)) as result:
            form.write(QueryResult(result.columns, result.types, _bounded(iter(result))), path)
    except QueryError as err:
        if TOO_LARGE in str(err):
            raise QueryError(f"a row of the answer has more than 100,000 bytes; {ALL_OF_IT}") from err
        raise


def _bounded(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield rows up to the limits.

    Raises:
        QueryError: there are more.
    """
    size = 0
    for count, row in enumerate(rows, start=1):
        size += sum(map(_size, row))
        if count > MAX_FILE_ROWS or size > MAX_FILE_BYTES:
            raise QueryError(
                f"the answer has more than {MAX_FILE_ROWS:,} rows or {MAX_FILE_BYTES / 1e6:.0f} MB; {ALL_OF_IT}"
            )
        yield row


def _size(value: object) -> int:
    if isinstance(value, dict):
        return sum(len(key) + _size(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str | bytes) else 8
