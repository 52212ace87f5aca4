"""CONTRIBUTING.md's tour names functions and classes that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STOP = re.compile(r"^\| [^|]+ \| `([\w./]+\.py)` \| `(\w+)` \|$", re.MULTILINE)


def test_the_tour_has_its_stops() -> None:
    assert len(STOP.findall(PAGE)) >= 18


@pytest.mark.parametrize(("file", "name"), STOP.findall(PAGE))
def test_each_stop_of_the_tour_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert name in defined
