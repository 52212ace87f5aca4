"""The shell of ``facet sql``: queries typed one after the other, with completion and a history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import PostgresLexer

from db.errors import DatabaseError
from db.reader.describe import describe_columns, describe_views, read_column_names
from db.reader.run_query import run_query
from db.schema.views import VIEWS
from worker.cli.output.terminal import echo
from worker.masking import masked
from worker.visible import visible_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from prompt_toolkit.key_binding import KeyPressEvent

    from db.reader.run_query import QueryResult

PROMPT = "facet> "
ENDS = frozenset({"\\q", "exit", "quit"})
HELP = r"""A query ends with ; and may take several lines.
\d         views
\d VIEW    columns of a view
\q         end, like Ctrl-D
Tab completes names; Ctrl-R searches the history; Ctrl-C drops a line or cancels a query."""
SQL_KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "JOIN", "LEFT JOIN", "USING", "DISTINCT",
    "COUNT", "AVG", "MIN", "MAX", "SUM", "BETWEEN", "LIKE", "ILIKE", "IS NULL", "IS NOT NULL", "DESC", "INTERVAL",
)  # fmt: skip


class SqlShell:
    """Reads queries from a terminal and shows their rows, until its user ends it.

    Args:
        url: address of the database.
        show: shows the rows of a query, and is given the names of columns that hold sentences.
        timeout_seconds: longest time of a query.
        history: file of the lines that were typed.
    """

    def __init__(
        self,
        url: str,
        show: Callable[[QueryResult, Collection[str]], None],
        timeout_seconds: float,
        history: Path | None,
    ) -> None:
        self._url = url
        self._show = show
        self._timeout_seconds = timeout_seconds
        self._history = None if history is None else FileHistory(str(history))

    def run(self) -> None:
        """Read and answer lines until the user ends the shell."""
        session: PromptSession[str] = PromptSession(
            history=self._history,
            lexer=PygmentsLexer(PostgresLexer),
            completer=complete_names([*VIEWS, *read_column_names(self._url)]),
            complete_while_typing=False,
            multiline=True,
            prompt_continuation=" " * len(PROMPT),
            key_bindings=_enter(),
        )
        echo(r"Type a query over the views and end it with ;  (\d lists views, \? shows help, \q ends)")
        while True:
            try:
                line = session.prompt(PROMPT).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if line.rstrip("; ") in ENDS:
                return
            self.answer(line)

    def answer(self, line: str) -> None:
        """Show the rows of a query, or of a command that begins with a backslash; an error is shown in their place."""
        command, _, name = line.rstrip("; \n").partition(" ")
        try:
            if command == "\\?":
                echo_lines(HELP)
            elif command == "\\d" and name:
                self._show_rows(describe_columns(self._url, name.strip().removeprefix("facet.")), prose=["description"])
            elif command == "\\d":
                self._show_rows(describe_views(self._url), prose=["description"])
            elif command.startswith("\\"):
                echo(f"{command} is no command; expected \\d, \\d VIEW, \\? or \\q", err=True)
            elif command:
                query = line.rstrip("; \n")
                self._show_rows(run_query(self._url, query, timeout_seconds=self._timeout_seconds))
        except DatabaseError as err:
            echo_lines(visible_lines(masked(f"facet: {err}")), err=True)
        except KeyboardInterrupt:
            echo("cancelled", err=True)

    def _show_rows(self, query: AbstractContextManager[QueryResult], prose: Collection[str] = ()) -> None:
        with query as result:
            self._show(result, prose)


def echo_lines(text: str, *, err: bool = False) -> None:
    """Print lines, each with its control characters shown as escapes."""
    for line in text.splitlines():
        echo(line, err=err)


def complete_names(names: Iterable[str]) -> WordCompleter:
    """Return the completion of names and of SQL's words, whatever their case."""
    return WordCompleter(list(dict.fromkeys([*names, *SQL_KEYWORDS])), ignore_case=True)


def is_complete(text: str) -> bool:
    """Return whether Enter ends the input: it is empty, a command, or a query that ends with a semicolon."""
    stripped = text.strip()
    return not stripped or stripped.startswith("\\") or stripped in ENDS or stripped.endswith(";")


def _enter() -> KeyBindings:
    """Return the binding by which Enter ends complete input, and begins a new line otherwise."""
    bindings = KeyBindings()

    @Condition
    def complete() -> bool:
        from prompt_toolkit.application import get_app

        return is_complete(get_app().current_buffer.text)

    @bindings.add("enter", filter=complete)
    def accept(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return bindings
