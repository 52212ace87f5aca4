"""Small changes of a source, one at a time, that a test should notice: operators of Python and of SQL in strings.

A change replaces a few bytes, so lines keep their numbers. Annotations, docstrings, decorators, messages of errors and
calls of a logger are left alone: whoever changes these changes no behaviour that a test of the area should hold.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPARISONS = {
    ast.Lt: (r"<", "<="), ast.LtE: (r"<=", "<"), ast.Gt: (r">", ">="), ast.GtE: (r">=", ">"), ast.Eq: (r"==", "!="),
    ast.NotEq: (r"!=", "=="), ast.Is: (r"\bis\b", "is not"), ast.IsNot: (r"\bis\s+not\b", "is"),
    ast.In: (r"\bin\b", "not in"), ast.NotIn: (r"\bnot\s+in\b", "in"),
}  # fmt: skip
_ARITHMETIC = {
    ast.Add: (r"\+", "-"), ast.Sub: (r"-", "+"), ast.Mult: (r"\*", "/"), ast.Div: (r"/", "*"),
    ast.FloorDiv: (r"//", "*"), ast.Mod: (r"%", "*"), ast.Pow: (r"\*\*", "*"), ast.BitAnd: (r"&", "|"),
    ast.BitOr: (r"\|", "&"),
}  # fmt: skip
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum",
          "argmin": "argmax", "argmax": "argmin", "floor": "ceil", "ceil": "floor"}  # fmt: skip
_LOGGERS = {"logger", "log", "logging", "warnings"}

_NEXT = "the next number"
_SQL = re.compile(r"\b(?:SELECT|UPDATE|INSERT INTO|DELETE FROM|WHERE|EXISTS|JOIN)\b")
_SQL_CHANGES = tuple(
    (re.compile(was), becomes)
    for was, becomes in (
        (r"<=", "<"), (r">=", ">"), (r"(?<![<=>-])<(?![=>])", "<="), (r"(?<![<=>-])>(?![=])", ">="), (r"<>", "="),
        (r"(?<![<>=:!])=(?![>])", "<>"), (r"\bAND\b", "OR"), (r"\bOR\b", "AND"), (r"\bIS NOT NULL\b", "IS NULL"),
        (r"\bIS NULL\b", "IS NOT NULL"), (r"\bNOT EXISTS\b", "EXISTS"), (r"\bNOT IN\b", "IN"), (r"\bDESC\b", "ASC"),
        (r"\bLEFT JOIN\b", "JOIN"), (r"\bgreatest\(", "least("), (r"\bleast\(", "greatest("), (r"\bmin\(", "max("),
        (r"\bmax\(", "min("), (r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r"(?<= )\+(?= )", "-"),
        (r"(?<= )-(?= )", "+"), (r" SKIP LOCKED\b", ""), (r"(?<![\w.$:'])\d+(?![\w.'])", _NEXT),
    )
)  # fmt: skip
_CLAUSE = re.compile(r"\b(?:SET|WHERE|ON|AND|OR|WHEN|HAVING|FILTER|SELECT|USING|FROM)\b")


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of a source."""

    line: int
    start: int
    """In bytes of the source."""
    end: int
    becomes: str

    def apply(self, source: bytes) -> bytes:
        """Return the changed source."""
        return source[: self.start] + self.becomes.encode() + source[self.end :]

    def describe(self, source: bytes) -> str:
        """Return the line as it becomes, with the change in brackets."""
        before = source[: self.start].rpartition(b"\n")[2].decode().lstrip()
        after = source[self.end :].partition(b"\n")[0].decode()
        was = source[self.start : self.end].decode()
        return " ".join(f"{before}[{was} -> {self.becomes}]{after}".split())


def mutations(source: bytes) -> list[Mutation]:
    """Return every change of a source that still compiles, in order of place."""
    found = set(_Finder(source).found())
    return sorted((one for one in found if _compiles(one.apply(source))), key=lambda one: (one.start, one.becomes))


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


class _Finder:
    """Walks the tree of a source and finds its changes."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._tree = ast.parse(source)
        lengths = [len(line) for line in source.splitlines(keepends=True)]
        self._starts = [sum(lengths[:number]) for number in range(len(lengths) + 1)]

    def found(self) -> Iterator[Mutation]:
        pending: list[ast.AST] = [self._tree]
        while pending:
            node = pending.pop()
            if not _is_type_checking(node):
                yield from self._changes(node)
            pending += self._below(node)

    def _below(self, node: ast.AST) -> list[ast.AST]:
        """Return the children worth a change."""
        if isinstance(node, ast.Raise | ast.JoinedStr) or _is_log_call(node) or _is_type_checking(node):
            return []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return []  # a docstring
        left_out = {id(getattr(node, name, None)) for name in ("annotation", "returns")}
        left_out |= {id(decorator) for decorator in getattr(node, "decorator_list", ())}
        return [child for child in ast.iter_child_nodes(node) if id(child) not in left_out]

    def _changes(self, node: ast.AST) -> Iterator[Mutation]:
        if isinstance(node, ast.expr):
            yield from self._in_expression(node)
        elif isinstance(node, ast.stmt):
            yield from self._in_statement(node)

    def _in_expression(self, node: ast.expr) -> Iterator[Mutation]:
        match node:
            case ast.Compare() | ast.BinOp() | ast.BoolOp():
                yield from self._operators(node)
            case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
                yield self._replace(self._start(node), self._start(node.operand), "")
            case ast.Call(func=ast.Attribute(value=ast.Call(), attr="all")):
                pass  # the rows of a result
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _CALLS:
                yield self._replace(self._end(node.func) - len(name), self._end(node.func), _CALLS[name])
            case ast.IfExp():
                yield self._negated(node.test)
            case ast.Constant() | ast.JoinedStr():
                yield from self._constant(node)

    def _in_statement(self, node: ast.stmt) -> Iterator[Mutation]:
        match node:
            case ast.If() | ast.While():
                yield self._negated(node.test)
            case ast.AugAssign(op=ast.Add() | ast.Sub()):
                swap = (r"\+=", "-=") if isinstance(node.op, ast.Add) else (r"-=", "+=")
                yield from self._between(node.target, node.value, swap)
            case ast.Break() | ast.Continue():
                becomes = "break" if isinstance(node, ast.Continue) else "continue"
                yield self._replace(self._start(node), self._end(node), becomes)
            case ast.Expr(value=ast.Call()) if not _is_log_call(node.value):
                yield self._replace(self._start(node), self._end(node), "pass")

    def _operators(self, node: ast.Compare | ast.BinOp | ast.BoolOp) -> Iterator[Mutation]:
        match node:
            case ast.Compare():
                sides = [node.left, *node.comparators]
                for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
                    yield from self._between(left, right, _COMPARISONS[type(operator)])
            case ast.BinOp():
                yield from self._between(node.left, node.right, _ARITHMETIC.get(type(node.op)))
            case ast.BoolOp():
                swap = (r"\band\b", "or") if isinstance(node.op, ast.And) else (r"\bor\b", "and")
                for left, right in pairwise(node.values):
                    yield from self._between(left, right, swap)

    def _negated(self, test: ast.expr) -> Mutation:
        return self._replace(self._start(test), self._end(test), f"(not ({self._text(test)}))")

    def _constant(self, node: ast.Constant | ast.JoinedStr) -> Iterator[Mutation]:
        value = node.value if isinstance(node, ast.Constant) else self._text(node)
        start, end = self._start(node), self._end(node)
        if isinstance(value, bool):
            yield self._replace(start, end, str(not value))
        elif isinstance(value, int):
            yield self._replace(start, end, str(value + 1))
        elif isinstance(value, float):
            yield self._replace(start, end, repr(2 * value if value else 1.0))
        elif isinstance(value, str) and _SQL.search(value):
            for pattern, becomes in _SQL_CHANGES:
                yield from self._sql(start, self._text(node), pattern, becomes)

    def _sql(self, start: int, text: str, pattern: re.Pattern[str], becomes: str) -> Iterator[Mutation]:
        for place in pattern.finditer(text):
            clauses = [clause.group() for clause in _CLAUSE.finditer(text, 0, place.start())]
            if place.group() == "=" and clauses[-1:] == ["SET"]:
                continue  # an assignment
            before = start + len(text[: place.start()].encode())
            value = str(int(place.group()) + 1) if becomes is _NEXT else becomes
            yield self._replace(before, before + len(place.group().encode()), value)

    def _between(self, left: ast.AST, right: ast.AST, swap: tuple[str, str] | None) -> Iterator[Mutation]:
        """Change the operator that stands between two nodes."""
        gap = self._source[self._end(left) : self._start(right)].decode()
        place = re.search(swap[0], gap) if swap else None
        if swap and place:
            start = self._end(left) + len(gap[: place.start()].encode())
            yield self._replace(start, start + len(place.group().encode()), swap[1])

    def _replace(self, start: int, end: int, becomes: str) -> Mutation:
        return Mutation(self._source.count(b"\n", 0, start) + 1, start, end, becomes)

    def _start(self, node: ast.AST) -> int:
        return int(self._starts[node.lineno - 1] + node.col_offset)

    def _end(self, node: ast.AST) -> int:
        return int(self._starts[node.end_lineno - 1] + node.end_col_offset)

    def _text(self, node: ast.AST) -> str:
        return self._source[self._start(node) : self._end(node)].decode()


def _is_log_call(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
            return name in _LOGGERS
    return False


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
