"""SQL stands beside its use (docs/design.md): commands and the deployment call functions, and write none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WITH_SQL = (
    "ledger", "analysis/store", "identity", "erasure", "pictures", "releases", "reprocess", "schedules",
    "storage/sources.py", "web/desk.py", "web/edits", "web/queries",
)  # fmt: skip
"""Below worker/."""
BEGINS_A_STATEMENT = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH|LOCK|TRUNCATE|CREATE|ALTER|DROP)\s")
DUE = re.compile(r"not_before, '-infinity'|lease_until <=? now\(\)")
"""The conditions of a unit that is due."""


def sql_in(source: str) -> list[str]:
    """Return where a source writes SQL: imports of sqlalchemy's text, and strings that begin a statement."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "sqlalchemy":
            found += [f"{node.lineno}: {alias.name}" for alias in node.names if alias.name == "text"]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and BEGINS_A_STATEMENT.match(node.value):
            found.append(f"{node.lineno}: {node.value.split()[0]}")
    return found


def test_sql_stands_beside_its_use_alone() -> None:
    sources = {path.relative_to(ROOT / "worker"): path for path in sorted((ROOT / "worker").rglob("*.py"))}
    elsewhere = {path: full for path, full in sources.items() if not any(map(path.is_relative_to, WITH_SQL))}
    assert {"cli", "deployment"} < {path.parts[0] for path in elsewhere}
    found = {str(path): sql_in(full.read_text(encoding="utf-8")) for path, full in elsewhere.items()}
    assert {path: places for path, places in found.items() if places} == {}


def test_which_units_are_due_is_written_once() -> None:
    paths = sorted((ROOT / "worker" / "ledger").rglob("*.py"))
    assert [path.name for path in paths if DUE.search(path.read_text(encoding="utf-8"))] == ["due.py"]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("from sqlalchemy import text\nx = text('SELECT 1')", 2),
        ('f"SELECT {x} FROM unit"', 1),
        ('"""\n  WITH a AS (SELECT 1) SELECT * FROM a"""', 1),
        ("HINT = 'facet sql \"SELECT 1\"'", 0),
        ("from sqlalchemy.exc import DBAPIError", 0),
    ],
)
def test_the_rule_can_fail(source: str, count: int) -> None:
    assert len(sql_in(source)) == count
