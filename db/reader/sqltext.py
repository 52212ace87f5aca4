"""The properties of a query that its text shows before PostgreSQL sees it: its first word and the functions called.

The text is cut into tokens exactly as PostgreSQL does it. Two notations would make that uncertain, backslash
strings and identifiers with Unicode escapes; queries do not need them, so they are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from db.errors import WrongQuery

BEGINNINGS = frozenset({"select", "with", "values", "table", "explain"})

# PostgreSQL counts every character beyond ASCII as a letter, and no such character as a space.
_LETTER = r"[A-Za-z_\u0080-\U0010FFFF]"
_TOKEN = re.compile(
    rf"""
      (?P<space>   [ \t\n\r\f\v]+ | --[^\n\r]* )
    | (?P<comment> /\* )
    | (?P<refused> [eE]' | [uU]&['"] )
    | (?P<word>    {_LETTER}(?:{_LETTER}|[0-9$])* )
    | (?P<quoted>  "(?:[^"]|"")*"? )
    | (?P<string>  '(?:[^']|'')*'? )
    | (?P<dollar>  \$(?:{_LETTER}(?:{_LETTER}|[0-9])*)?\$ )
    | (?P<other>   \$?[0-9]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class QueryText:
    """First word and calls of a query."""

    beginning: str
    """Its first word in lower case, '' where it begins with something else."""
    calls: frozenset[str]
    """Names before an opening parenthesis, without their schema."""


def read_query(query: str) -> QueryText:
    """Parse the text of one query.

    Args:
        query: SQL as the user wrote it.

    Raises:
        WrongQuery: it uses a notation that is refused, or does not begin like a query.
    """
    beginning: str | None = None
    name: str | None = None
    calls = set()
    for kind, piece in _tokens(query):
        if beginning is None and piece != "(":
            beginning = piece.lower() if kind == "word" else ""
        if piece == "(" and name is not None:
            calls.add(name)
        name = _name(kind, piece)
    if beginning not in BEGINNINGS:
        found = f"'{beginning}'" if beginning else "no word"
        raise WrongQuery(f"the query begins with {found}; expected one SELECT (or WITH, VALUES, TABLE, EXPLAIN)")
    return QueryText(beginning or "", frozenset(calls))


def without_end(query: str) -> str:
    """Return a query without the semicolons, spaces and comments at its end, so that it can stand in another one."""
    end, at = 0, 0
    while match := _TOKEN.match(query, at):
        kind, at = match.lastgroup, match.end()
        if kind == "comment":
            at = _end_of_comment(query, at)
        elif kind == "dollar":
            close = query.find(match.group(), at)
            end = at = len(query) if close < 0 else close + len(match.group())
        elif kind != "space" and match.group() != ";":
            end = at
    return query[:end]


def _name(kind: str, token: str) -> str | None:
    if kind == "word":
        return token.lower()
    if kind == "quoted":
        return token.strip('"').replace('""', '"')
    return None


def _tokens(query: str) -> list[tuple[str, str]]:
    """Cut a query into words, quoted names, literals and signs, without spaces and comments."""
    found, at = [], 0
    while match := _TOKEN.match(query, at):
        kind, token, at = str(match.lastgroup), match.group(), match.end()
        if kind == "refused":
            raise WrongQuery(f"the query holds {token}...; expected plain '...' strings and \"...\" names")
        if kind == "comment":
            at = _end_of_comment(query, at)
        elif kind == "dollar":
            end = query.find(token, at)
            at = len(query) if end < 0 else end + len(token)
            found.append(("string", token))
        elif kind != "space":
            found.append((kind, token))
    return found


def _end_of_comment(query: str, at: int) -> int:
    """Return where a comment ends whose opening lies before ``at``; PostgreSQL nests them."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(query, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(query)
