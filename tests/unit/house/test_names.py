"""No two public things of one package share a name, so that a search for a name finds one thing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("db", "models", "training", "worker")
MIGRATIONS = "db/migrations/versions"  # each has the same few names
CONVENTIONAL = {"main", "app", "add_commands", "logger", "ROUTES", "page"}  # one of its kind in each module that has it


def public_names(tree: ast.Module) -> Iterator[str]:
    """Yield the public classes, functions and constants of a module.

    Commands of a command line do not count: their names are the words that users type.
    """
    commands = {name for node in ast.walk(tree) for name in added_commands(node)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            continue
        yield from (name for name in found if not name.startswith("_") and name not in commands)


def added_commands(node: ast.AST) -> Iterator[str]:
    """Yield the functions that a node makes a command: by a decorator, or in a call like ``app.command()(submit)``.

    Handlers of the page are made so by ``page("/people", people)`` and ``action``: their names are of their routes.
    """
    if isinstance(node, ast.FunctionDef) and any(is_command(decorator) for decorator in node.decorator_list):
        yield node.name
    elif isinstance(node, ast.Call) and (is_command(node.func) or is_route(node)):
        yield from (argument.id for argument in node.args if isinstance(argument, ast.Name))


def is_command(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "command"


def is_route(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in {"page", "action", "Route"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_name_is_one_thing(package: str) -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.is_relative_to(ROOT / MIGRATIONS):
            continue
        for name in public_names(ast.parse(path.read_text(encoding="utf-8"))):
            places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in CONVENTIONAL} == {}


def test_commands_are_told_from_other_functions() -> None:
    tree = ast.parse(
        '@app.command("list")\ndef shown(): ...\ndef added(): ...\ndef plain(): ...\napp.command()(added)\n'
    )
    assert list(public_names(tree)) == ["plain"]
