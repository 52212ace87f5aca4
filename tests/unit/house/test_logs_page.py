"""docs/logs.md names every action that the programs log, with the facts that go with it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "logs.md"
PACKAGES = ("worker", "training", "models", "db")
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| ([^|]*) \|", re.MULTILINE)
BY_ARGUMENT = "_where_permitted"
"""Its second argument is the action of what it logs."""


def logged() -> dict[str, set[str]]:
    """Return the facts of each action, of all places that log it."""
    facts: dict[str, set[str]] = {}
    for nodes in program().values():
        for node in nodes:
            for action, names in _actions(node):
                facts.setdefault(action, set()).update(names)
    return facts


@cache
def program() -> dict[Path, list[ast.Dict | ast.Call]]:
    """Return what may log, by source."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    trees = {path: ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in paths}
    return {path: [node for node in tree if isinstance(node, ast.Dict | ast.Call)] for path, tree in trees.items()}


def _actions(node: ast.AST) -> list[tuple[str, set[str]]]:
    if isinstance(node, ast.Dict):
        items = {key.value: value for key, value in zip(node.keys, node.values, strict=True) if _is_text(key)}
        action = items.pop("action", None)
        return [(action.value, set(items))] if _is_text(action) else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == BY_ARGUMENT:
        return [(node.args[1].value, {"error"})]
    return []


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_the_page_lists_the_actions_and_facts_of_the_code() -> None:
    page = {action: set(re.findall(r"`(\w+)`", facts)) for action, facts in ROW.findall(PAGE.read_text("utf-8"))}
    assert page == logged()


def test_every_log_line_has_an_action() -> None:
    """A log call says what it is about in ``extra``; one without would not be on the page."""
    without = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, nodes in program().items()
        for node in nodes
        if _logs(node) and not any(keyword.arg == "extra" for keyword in node.keywords)
    ]
    assert without == []


def _logs(node: ast.AST) -> bool:
    methods = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in methods
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"logger", "_log"}
    )
