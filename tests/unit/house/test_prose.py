"""The prose rules of CONTRIBUTING.md, where a machine can hold them: how docstrings begin, how limits are called."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEADLESS = re.compile(r"(?:What|Who|Whoever|Let|Say|Tell|Give)\b(?!.*\?\s*$)", re.DOTALL)
"""A docstring that begins so has no subject, or names no act; a question may."""
EXTREME = re.compile(r"_?(?:MOST|LEAST)_")
"""Limits are called MAX_ and MIN_."""


@lru_cache(maxsize=1)
def offences() -> dict[Path, list[str]]:
    """Return the offences of each source, with their lines."""
    listing = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [path for name in listing.stdout.split("\0") if name and (ROOT / (path := Path(name))).is_file()]
    return {path: found for path in paths if (found := breaches((ROOT / path).read_text(encoding="utf-8")))}


def breaches(source: str) -> list[str]:
    """Return lines and first words of docstrings and names that break the rules."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            if HEADLESS.match(text := node.value.value.strip()):
                found.append(f"{node.lineno}: {text.partition(chr(10))[0]}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and EXTREME.match(node.id):
            found.append(f"{node.lineno}: {node.id}")
    return found


def test_no_docstring_is_headless_and_limits_are_max_and_min() -> None:
    assert {str(path): found for path, found in offences().items()} == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('def f():\n    """Give the sum."""', 1),
        ('"""Who bears which name."""', 1),
        ('class A:\n    x: int\n    """What was found."""', 1),
        ('"""Who is it?"""', 0),
        ('def f():\n    """Return what was found."""', 0),
        ("MOST_FACES = 3", 1),
        ("_LEAST_BYTES: int = 3", 1),
        ("MAX_FACES = AT_MOST = 3", 0),
    ],
)
def test_the_rules_can_fail(source: str, count: int) -> None:
    assert len(breaches(source)) == count
