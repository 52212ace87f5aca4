"""No two public things of one package share a name, so that a search for a name finds one thing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("training",)
ENTRY_POINTS = {"main"}  # each program has one


def public_names(path: Path) -> Iterator[str]:
    """Yield the public classes, functions and constants of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            continue
        yield from (name for name in found if not name.startswith("_"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_name_is_one_thing(package: str) -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for name in public_names(path):
            places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in ENTRY_POINTS} == {}
