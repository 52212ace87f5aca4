"""The house style, where a machine can hold it: sizes of files and functions, and words that belong in no source."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("worker", "models", "training", "db")
FILE_LINES = 400
FILE_LINES_MEDIAN = 150
FUNCTION_LINES = 50
FUNCTION_LINES_MEDIAN = 10
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".sql", ".ini", ".mako", ".html", ""}

PLACES = {
    r"(?<![\w.])/(?:work|root|home/\w+)/": "a path of one machine",
    r"(?<![\w.])/tmp/": "a folder that other systems lack",
    r"\.\./shared\b": "a folder that only one checkout has",
}
WORDS = {
    r"\b(?:TODO|FIXME|XXX)\b": "a to-do: do it, or leave it",
    r"\b[Ii]ssue #?\d": "a number of a tracker: say the reason itself",
    r"\b(?:pypi\.org|pythonhosted\.org|registry\.npmjs|download\.pytorch\.org)\b": "a registry's host",
}


@lru_cache(maxsize=1)
def tracked() -> tuple[Path, ...]:
    """Return the text files that git knows, relative to the root."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (Path(name) for name in listing.split("\0") if name)
    return tuple(p for p in paths if p.suffix in TEXT_SUFFIXES and (ROOT / p).is_file())


def sources() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def program() -> list[Path]:
    return [path for path in sources() if path.parts[0] in PACKAGES]


def line_count(path: Path) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def function_lines(path: Path) -> dict[str, int]:
    """Return the lines of each function's body, by line and name."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {f"{node.lineno} {node.name}": body_lines(node) for node in ast.walk(tree) if isinstance(node, Function)}


def body_lines(function: Function) -> int:
    """Count the lines below signature and docstring."""
    first = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return first[-1].end_lineno - first[0].lineno + 1 if first else 0


def test_the_program_is_found() -> None:
    assert {path.parts[0] for path in program()} == set(PACKAGES)


def test_no_file_is_longer_than_a_reader_holds() -> None:
    lengths = {str(path): line_count(path) for path in sources()}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_the_median_file_is_short() -> None:
    assert statistics.median(line_count(path) for path in program()) <= FILE_LINES_MEDIAN


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {f"{path}:{name}": lines for path in sources() for name, lines in function_lines(path).items()}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}


def test_the_median_function_is_short() -> None:
    assert (
        statistics.median(lines for path in program() for lines in function_lines(path).values())
        <= FUNCTION_LINES_MEDIAN
    )


def lines_with(pattern: str, paths: Iterable[Path]) -> dict[str, str]:
    return {
        f"{path}:{number}": line.strip()
        for path in paths
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(pattern, line)
    }


@pytest.mark.parametrize(("pattern", "what"), PLACES.items(), ids=PLACES.values())
def test_no_place_of_one_machine_is_named(pattern: str, what: str) -> None:
    """Tests and benchmarks may: such a place stands there for what a user's machine has."""
    assert lines_with(pattern, (p for p in tracked() if p.parts[0] not in ("tests", "benchmarks"))) == {}, what


@pytest.mark.parametrize(("pattern", "what"), WORDS.items(), ids=WORDS.values())
def test_no_such_word_stands_anywhere(pattern: str, what: str) -> None:
    assert lines_with(pattern, (p for p in tracked() if p.parts[:3] != ("tests", "unit", "house"))) == {}, what


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_import_contract_holds() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
