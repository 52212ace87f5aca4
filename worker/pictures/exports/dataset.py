"""All views as Parquet: a folder that DuckDB, polars and others read, with the meaning of each column beside it.

Rows of files lie in a partition for each job, that which found the file first. A partition whose rows have not changed
since the export before is not written again; the database compares them, so that only changes travel. Partitions of
other releases stay, as they were when those releases were active.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from db.reader.describe import describe_columns, describe_views
from db.reader.run_query import DOCUMENT_TYPES, run_query
from worker.errors import FacetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from db.reader.run_query import QueryResult

PACKAGE, DICTIONARY, DUCKDB = "datapackage.json", "dictionary.md", "duckdb.sql"
TIMEOUT_SECONDS = 6 * 3600.0  # of one query: the predictions of a large archive
DROPPED = frozenset({"half_embedding"})  # the values of `embedding`, once more

_JOBS = """
SELECT DISTINCT o.job_id FROM media AS m
LEFT JOIN (SELECT media_id, min(job_id) AS job_id FROM files GROUP BY media_id) AS o USING (media_id) ORDER BY 1
"""
_OF_JOB = "media_id IN (SELECT media_id FROM files GROUP BY media_id HAVING min(job_id) = {job})"
_OF_NONE = "media_id NOT IN (SELECT media_id FROM files WHERE media_id IS NOT NULL)"
_BY_FACE = "face_id IN (SELECT face_id FROM faces WHERE {media})"
BY_MEDIA = frozenset({"media", "scenes", "faces", "appearances"})
BY_FACE = frozenset({"face_attributes", "predictions", "probabilities"})
# An order does not matter, so that rows which only moved in a table count as unchanged.
_DIGEST = """
SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM ({query}) AS t
"""
# Types of Frictionless Data (datapackage.org) by the first word of PostgreSQL's.
_TYPES = {
    "bigint": "integer", "integer": "integer", "smallint": "integer", "real": "number", "double": "number",
    "numeric": "number", "boolean": "boolean", "timestamp": "datetime", "date": "date", "interval": "duration",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a view."""

    name: str
    type: str
    """As PostgreSQL names it."""
    description: str

    @property
    def selected(self) -> str:
        """The column in a query; documents as text."""
        return f'"{self.name}"::text AS "{self.name}"' if self.type in DOCUMENT_TYPES else f'"{self.name}"'

    @property
    def field(self) -> dict[str, str]:
        """The column in a data package."""
        is_array = self.type.endswith("[]") or self.type.startswith(("vector", "halfvec"))
        kind = "array" if is_array else _TYPES.get(self.type.split("(")[0].split()[0], "string")
        return {"name": self.name, "type": kind, "description": self.description}


@dataclass(frozen=True, slots=True)
class View:
    """A view with its columns."""

    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def is_split(self) -> bool:
        """Whether its rows belong to files, and so to jobs."""
        return self.name in BY_MEDIA | BY_FACE

    def query(self, job: int | None) -> str:
        """Return the query of a partition, or of the whole view."""
        columns = ", ".join(column.selected for column in self.columns)
        query = f'SELECT {columns} FROM "{self.name}"'  # noqa: S608 - names of the database
        if not self.is_split:
            return query
        media = _OF_NONE if job is None else _OF_JOB.format(job=job)
        return f"{query} WHERE {media if self.name in BY_MEDIA else _BY_FACE.format(media=media)}"


@dataclass(frozen=True, slots=True)
class Exported:
    """Outcome of an export."""

    written: int
    """Partitions that were written."""
    unchanged: int
    removed: int
    """Partitions of the active release that no longer have rows."""


def export_dataset(
    url: str, folder: Path, write: Callable[[QueryResult, Path], None], progress: Callable[[str], None]
) -> Exported:
    """Write all views below a folder, or bring an earlier export up to date.

    Args:
        url: address of the database.
        folder: new, empty or of an earlier export.
        write: writes rows as one Parquet file.
        progress: called with the name of each partition.

    Raises:
        UsageError: the folder holds something else.
        FacetError: it cannot be written.
    """
    before = _digests_of(folder)
    release = _active_release(url)
    views = list(_views(url))
    jobs = [job for (job,) in _rows(url, _JOBS)]
    found: dict[str, str] = {}
    written = 0
    for view in views:
        for job, digest in _partitions(url, view, jobs):
            path = _path(view, release, job)
            found[path] = digest
            if before.get(path) != digest or not (folder / path).is_file():
                progress(path)
                _write_partition(url, view.query(job), folder / path, write)
                written += 1
    mark = f"/active_release={quote(release, safe='')}/"
    gone = [path for path in before if mark in path and path not in found]
    kept = {path: digest for path, digest in before.items() if mark not in path}
    _write_descriptions(folder, views, kept | found)
    for path in gone:
        with suppress(FileNotFoundError):
            (folder / path).unlink()
    return Exported(written, len(found) - written, len(gone))


def _partitions(url: str, view: View, jobs: list[int | None]) -> Iterator[tuple[int | None, str]]:
    """Yield the job and the digest of each partition that has rows; of a view without rows an empty one."""
    names = ",".join(column.name for column in view.columns)
    digest = ""
    is_empty = True
    for job in (jobs or [None]) if view.is_split else [None]:
        ((count, total),) = _rows(url, _DIGEST.format(query=view.query(job)))
        digest = f"{count}:{total}:{names}"
        if count or not view.is_split:
            is_empty = False
            yield job, digest
    if is_empty:
        yield None, digest


def _path(view: View, release: str, job: int | None) -> str:
    place = f"{view.name}/active_release={quote(release, safe='')}"
    return (
        f"{place}/first_job={'none' if job is None else job}/rows.parquet" if view.is_split else f"{place}/rows.parquet"
    )


def _digests_of(folder: Path) -> dict[str, str]:
    """Return the digests of the partitions of an earlier export, none for a new one."""
    package = folder / PACKAGE
    if not package.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} holds something else, expected a new folder or one of an earlier export")
        return {}
    try:
        digests: dict[str, str] = json.loads(package.read_text(encoding="utf-8"))["facet"]["digests"]
    except (ValueError, KeyError, TypeError) as err:
        raise UsageError(
            f"{package} is of no export of Facet; expected a new folder or one of an earlier export"
        ) from err
    return digests


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with run_query(url, query, timeout_seconds=TIMEOUT_SECONDS) as result:
        return list(result)


def _active_release(url: str) -> str:
    found = _rows(url, "SELECT release FROM releases WHERE active")
    if not found:
        raise UsageError("no release is active, so the views are empty; run `facet analyze` first")
    return str(found[0][0])


def _views(url: str) -> Iterator[View]:
    with describe_views(url) as result:
        described = list(result)
    for name, description in described:
        with describe_columns(url, name) as result:
            columns = [Column(column, kind, text or "") for column, kind, text in result]
        yield View(name, description or "", tuple(column for column in columns if column.name not in DROPPED))


def _write_partition(url: str, query: str, path: Path, write: Callable[[QueryResult, Path], None]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with run_query(url, query, timeout_seconds=TIMEOUT_SECONDS) as result:
            write(result, part)
        part.replace(path)
    except OSError as err:
        raise FacetError(f"{path} cannot be written: {err.strerror or err}") from err
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _write_descriptions(folder: Path, views: list[View], digests: dict[str, str]) -> None:
    """Write the data package, the dictionary and the views for DuckDB."""
    resources = [
        {
            "name": view.name,
            "description": view.description,
            "path": sorted(path for path in digests if path.startswith(f"{view.name}/")),
            "format": "parquet",
            "mediatype": "application/vnd.apache.parquet",
            "schema": {"fields": [column.field for column in view.columns]},
        }
        for view in views
    ]
    package = {"name": "facet", "profile": "data-package", "resources": resources, "facet": {"digests": digests}}
    _write_text(folder / DICTIONARY, "\n".join(_dictionary(views)))
    _write_text(folder / DUCKDB, "\n".join(_duckdb(views)))
    _write_text(folder / PACKAGE, json.dumps(package, indent=1, ensure_ascii=False) + "\n")


def _dictionary(views: list[View]) -> Iterator[str]:
    yield "# Columns\n"
    for view in views:
        yield f"## {view.name}\n\n{view.description}\n\n| column | type | meaning |\n|---|---|---|"
        for column in view.columns:
            meaning = column.description.replace("|", "\\|")
            yield f"| `{column.name}` | {column.type} | {meaning} |"
        yield ""


def _duckdb(views: list[View]) -> Iterator[str]:
    yield "-- Start DuckDB in this folder: duckdb -init duckdb.sql"
    for view in views:
        rows = f"read_parquet('{view.name}/**/*.parquet', hive_partitioning = true, union_by_name = true)"
        yield f"CREATE OR REPLACE VIEW {view.name} AS FROM {rows};"


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as err:
        raise FacetError(f"{path} cannot be written: {err.strerror or err}") from err
