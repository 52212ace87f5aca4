"""Queries of users: one statement, read-only, as a role that may read the views and nothing else.

Four barriers, each of which alone stops honest mistakes: the role ``facet_reader`` (a login of its own where the
server admits it, else SET ROLE); a READ ONLY transaction; a cursor, which PostgreSQL declares for a single query and
for nothing else; and no function with side effects, so that no query changes its own role or limits, or reads files.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from json import loads
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.adapt import Loader
from psycopg.types import TypeInfo

from db.engine import CONNECT_TIMEOUT_SECONDS, SEARCH_PATH, mask_url, parse_url
from db.errors import DatabaseUnreachable, QueryError, WrongQuery
from db.reader.sqltext import read_query
from db.schema.roles import READER
from db.schema.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg.abc import Buffer
    from sqlalchemy import URL

ROWS_PER_FETCH = 2000
POINTER_WIDTH = 100  # characters of the line with a mistake that are shown
DECLARE = 'DECLARE "query" CURSOR FOR '  # psycopg puts it before the query, and PostgreSQL counts positions from there
DOCUMENT_TYPES = frozenset({"json", "jsonb"})
"""Types whose values have keys that differ from row to row."""
MISTAKES = psycopg.ProgrammingError
"""Errors in the text of a query: syntax, unknown names, functions and views, types that do not fit."""
# A join of two million faces stays out of temporary files with this memory for each sort and hash table. Memoize is off
# since PostgreSQL takes it for joins by ranges, whose keys hardly repeat: people in view together took 10 s, not 3.
# Views join up to eight tables, and PostgreSQL orders no more than eight joins of a query freely by default.
# A look-up in an index, most of whose cost is operators, takes twice the time that PostgreSQL expects by default: it
# looked 100,000 rows up in 390 ms where a hash join reads them in 240.
RESOURCES = {
    "work_mem": "64MB",
    "enable_memoize": "off",
    "join_collapse_limit": "11",
    "from_collapse_limit": "11",
    "cpu_operator_cost": "0.005",
}
# Functions that PostgreSQL calls volatile although they change nothing.
HARMLESS = (
    "clock_timestamp",
    "gen_random_uuid",
    "random",
    "random_normal",
    "timeofday",
)

# Volatile functions have side effects, or read what lies outside the tables; set_config and dynamic SQL are among them.
# Of functions that others installed, those called stable may run SQL handed to them as text (crosstab).
_REFUSED_FUNCTIONS = """
SELECT DISTINCT p.proname FROM pg_proc AS p
WHERE p.proname = ANY(%(calls)s) AND NOT p.proname = ANY(%(harmless)s) AND (
    p.provolatile = 'v'
    OR p.provolatile = 's' AND p.pronamespace <> ALL (ARRAY['pg_catalog', 'information_schema']::regnamespace[])
) ORDER BY 1
"""


class QueryResult:
    """The rows of a query, fetched from the server while they are iterated over, which is possible once.

    Attributes:
        columns: names.
        types: PostgreSQL's names of their types, such as ``int8``, ``text``, ``_float4`` (an array), ``vector``,
            ``halfvec``.
    """

    def __init__(self, columns: list[str], types: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
        self.columns = columns
        self.types = types
        self._rows = rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows


@dataclass(frozen=True, slots=True)
class _Request:
    query: str
    parameters: Sequence[Any] | Mapping[str, Any] | None
    limit: int | None
    timeout_seconds: float
    settings: Mapping[str, str]


@contextmanager
def run_query(
    url: str,
    query: str,
    *,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    limit: int | None = None,
    timeout_seconds: float = 300.0,
    settings: Mapping[str, str] | None = None,
) -> Iterator[QueryResult]:
    """Run one query; its rows can be read while the context is open.

    Args:
        url: address of the database, as the reader or as any user who may become the reader.
        query: one SELECT, WITH, VALUES, TABLE or EXPLAIN over the views.
        parameters: values for ``%s`` or ``%(name)s``; without them a percent sign means itself.
        limit: most rows to give.
        timeout_seconds: longest time that the server may work before the first and between further rows.
        settings: of PostgreSQL, for this query alone.

    Yields:
        Columns, types and an iterator of rows: arrays and vectors are lists, jsonb is its value, times are aware.

    Raises:
        DatabaseUnreachable: no connection.
        QueryError: the query is refused, wrong or too slow; also raised while rows are read.
    """
    text = read_query(query)
    request = _Request(query, parameters, limit, timeout_seconds, settings or {})
    with _connection(url, request) as connection, ExitStack() as open_cursor:
        with _errors_in_one_line(request):
            _refuse_side_effects(connection, text.calls)
            if text.beginning == "explain":
                # Plans come from no declared cursor; preparing also limits this to a single statement.
                cursor = open_cursor.enter_context(connection.cursor())
                cursor.execute(query, parameters, prepare=True)
            else:
                cursor = open_cursor.enter_context(_streaming_cursor(connection))
                cursor.execute(query, parameters)
            result = _result(connection, cursor, request)
        yield result


def _streaming_cursor(connection: psycopg.Connection) -> psycopg.Cursor[Any]:
    cursor = connection.cursor("query")
    cursor.itersize = ROWS_PER_FETCH
    return cursor


def _result(connection: psycopg.Connection, cursor: psycopg.Cursor[Any], request: _Request) -> QueryResult:
    described = cursor.description or []
    oids = [column.type_code for column in described]
    named = connection.execute("SELECT oid::int8, typname FROM pg_type WHERE oid = ANY(%s)", (oids,)).fetchall()
    type_of: dict[int, str] = dict(named)
    columns = [column.name for column in described]
    return QueryResult(columns, [type_of[oid] for oid in oids], _rows(cursor, request))


def _rows(cursor: psycopg.Cursor[Any], request: _Request) -> Iterator[tuple[Any, ...]]:
    with _errors_in_one_line(request):
        yield from islice(cursor, request.limit)


@contextmanager
def _connection(url: str, request: _Request) -> Iterator[psycopg.Connection]:
    """Open a read-only transaction as the reader; it is always rolled back."""
    connection = log_in(parse_url(url))
    try:
        connection.read_only = True
        _become_reader(connection)
        _set_limits(connection, request)
        _read_vectors_as_lists(connection)
        yield connection
    finally:
        connection.close()


def log_in(url: URL) -> psycopg.Connection:
    """Log in as the reader where no password is needed (the embedded server), else as the user of the address.

    Raises:
        DatabaseUnreachable: no connection.
    """
    if url.password is None and url.username != READER:
        try:
            return _connect(url.set(username=READER))
        except psycopg.OperationalError:
            pass  # the address' own user then becomes the reader
    try:
        return _connect(url)
    except psycopg.OperationalError as err:
        found = str(err).splitlines()[0]
        raise DatabaseUnreachable(f"{found}; expected a PostgreSQL at {mask_url(url)}: is it running?") from err


def _connect(url: URL) -> psycopg.Connection:
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "facet sql",
        **url.translate_connect_args(username="user", database="dbname"),
        **url.query,
    }
    return psycopg.connect(**arguments)


def _set_limits(connection: psycopg.Connection, request: _Request) -> None:
    """Set the limits inside the transaction, so that they hold behind a pooler and end with the transaction."""
    settings = {
        "search_path": SEARCH_PATH,
        "timezone": "UTC",
        "default_transaction_read_only": "on",
        "standard_conforming_strings": "on",
        **RESOURCES,
        **request.settings,
        "statement_timeout": f"{max(1, round(request.timeout_seconds * 1000))}ms",
    }
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, true)", (name, value))


def _become_reader(connection: psycopg.Connection) -> None:
    """Change to the reader's role.

    Raises:
        QueryError: there is no such role, or this user may not become it.
    """
    try:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(READER)))
    except psycopg.Error as err:
        found = str(err).splitlines()[0]
        raise QueryError(
            f"{found}; expected the role {READER}, which queries run as: let a user who may create roles "
            f"run 'facet db upgrade', or 'GRANT {READER} TO' this user"
        ) from err


def _refuse_side_effects(connection: psycopg.Connection, calls: frozenset[str]) -> None:
    if not calls:
        return
    refused = connection.execute(_REFUSED_FUNCTIONS, {"calls": list(calls), "harmless": list(HARMLESS)}).fetchone()
    if refused:
        raise QueryError(f"the query calls {refused[0]}(); expected only functions without side effects")


class _VectorAsList(Loader):
    def load(self, data: Buffer) -> list[float]:
        return list(loads(bytes(data)))


def _read_vectors_as_lists(connection: psycopg.Connection) -> None:
    for name in ("vector", "halfvec"):
        info = TypeInfo.fetch(connection, name)
        if info is not None:
            connection.adapters.register_loader(info.oid, _VectorAsList)


@contextmanager
def _errors_in_one_line(request: _Request) -> Iterator[None]:
    """Turn an error of PostgreSQL into one line with a next step."""
    try:
        yield
    except psycopg.Error as err:
        kind = WrongQuery if isinstance(err, MISTAKES) else QueryError
        raise kind(_message(err, request) + _pointer(err, request)) from err


def _pointer(err: psycopg.Error, request: _Request) -> str:
    """Return two more lines, the line of the query with the mistake and a caret below it; empty where it is unknown."""
    if err.diag.statement_position is None or request.parameters is not None:
        return ""
    declared = 0 if read_query(request.query).beginning == "explain" else len(DECLARE)
    offset = int(err.diag.statement_position) - 1 - declared
    if not 0 <= offset <= len(request.query):
        return ""
    before = request.query[:offset]
    number, column = before.count("\n") + 1, offset - (before.rfind("\n") + 1)
    line = request.query.split("\n")[number - 1].replace("\t", " ")
    start = max(0, column - POINTER_WIDTH // 2)
    name = f"line {number}: "
    return f"\n{name}{line[start : start + POINTER_WIDTH]}\n{' ' * (len(name) + column - start)}^"


def _message(err: psycopg.Error, request: _Request) -> str:
    found = err.diag.message_primary or str(err).splitlines()[0]
    if isinstance(err, psycopg.errors.QueryCanceled):
        if "timeout" not in found:
            return "the query was cancelled"
        return f"the query took longer than {request.timeout_seconds:g} s; narrow it, or allow it more time"
    if "multiple commands" in found:
        return "the query holds more than one statement; expected one"
    if isinstance(err, psycopg.errors.UndefinedTable | psycopg.errors.InsufficientPrivilege):
        return f"{found}; expected one of the views {', '.join(VIEWS)} (docs/sql.md)"
    return f"{found}; {err.diag.message_hint}" if err.diag.message_hint else found
