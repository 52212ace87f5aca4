"""The prose rules of CONTRIBUTING.md, where a machine can hold them: docstrings' beginnings, names of limits, words."""

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
REPLACED = re.compile(
    r"(?<![/*])\b(?:films?(?! stills|/)|somebody(?!\*)|nobody(?! yet|'s)|everybody|anybody|whoever)\b", re.IGNORECASE
)
"""The views call it a video; a process, a role and a row have names of their own. Film stills are a data set, "nobody
yet" is shown below faces without a person, and the demonstration's archive has a folder ``films``."""
WRITTEN = ("worker", "models", "training", "db", "docs", "README.md", "CONTRIBUTING.md")


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


def test_sources_and_pages_use_the_words_of_the_glossary() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", *WRITTEN], cwd=ROOT, check=True, capture_output=True, text=True
    )
    paths = [name for name in listing.stdout.split("\0") if Path(name).suffix in {".py", ".sql", ".md"}]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in paths if (ROOT / name).is_file()}
    assert {"db/schema/views.sql", "docs/sql.md", "README.md"} < texts.keys()
    assert {name: found for name, text in texts.items() if (found := REPLACED.findall(text))} == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a film, two Films", 2),
        ("from anybody, whoever it is", 2),
        ("null while nobody is assigned", 1),
        ("films/two-pioneers.mp4 and film stills: nobody yet", 0),
        ("no *somebody* for a row, no microfilm", 0),
    ],
)
def test_the_words_can_fail(text: str, count: int) -> None:
    assert len(REPLACED.findall(text)) == count


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
