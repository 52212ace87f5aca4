"""The house can be drawn from its folders: none is too full, and the unit tests mirror them."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("worker", "models", "training", "db")
ENTRIES = 13
FULLER = {"worker": 14}
"""The page is its fourteenth folder."""
GROUND = {
    "worker": {"columns.py", "config.py", "errors.py", "masking.py", "metrics.py", "types.py", "visible.py"},
    "models": {"errors.py", "geometry.py", "types.py", "weights.py"},
    "training": {"errors.py"},
    "db": {"base.py", "engine.py", "errors.py"},
}
"""Files that all folders of a package stand on."""
HISTORY = Path("db/migrations/versions")
"""Grows by a file a migration."""
MODULE = re.compile(r"[a-z_0-9]+(?:\.[A-Za-z_0-9]+)+")


@lru_cache(maxsize=1)
def tracked() -> tuple[Path, ...]:
    command = ["git", "ls-files", "-z", "--", *PACKAGES, "tests/unit"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in listing.split("\0") if name and (ROOT / (path := Path(name))).is_file())


@lru_cache(maxsize=1)
def folders() -> dict[Path, set[str]]:
    """Return the entries of each folder of the packages."""
    found: dict[Path, set[str]] = defaultdict(set)
    for path in tracked():
        if path.parts[0] in PACKAGES:
            for folder, entry in zip(path.parents, (path, *path.parents), strict=False):
                found[folder].add(entry.name)
    del found[Path()]
    return dict(found)


def mirrors() -> list[Path]:
    """Return the files of unit tests, relative to tests/unit, but for those that hold the house rules."""
    tests = (path.relative_to("tests/unit") for path in tracked() if path.parts[0] == "tests")
    return sorted(path for path in tests if path.parts[0] != "house" and path.name.startswith("test_"))


def named(text: str) -> set[str]:
    """Return what a source imports or names in a string: modules, and names in them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
            found |= {node.value, node.value.rpartition(".")[0]}
    return found


def is_at_home(folder: Path, text: str) -> bool:
    """Whether a test names the package that its folder mirrors, or a module that lies directly in it."""
    package = ".".join(folder.parts)
    modules = {Path(entry).stem for entry in folders().get(folder, ()) if entry.endswith(".py")}
    below = {entry for entry in folders().get(folder, ()) if "." not in entry}
    names = named(text)
    if any(f"{package}.{module}" in names for module in modules):
        return True
    taken = {name.removeprefix(f"{package}.").partition(".")[0] for name in names if name.startswith(f"{package}.")}
    return package in names and bool(taken - below)


def test_no_folder_is_fuller_than_a_reader_holds() -> None:
    for folder, entries in folders().items():
        counted = entries - {"__init__.py", "py.typed"} - GROUND.get(str(folder), set())
        assert len(counted) <= FULLER.get(str(folder), ENTRIES) or folder == HISTORY, (
            f"{folder} has {len(counted)} entries: {sorted(counted)}"
        )


def test_files_that_all_stand_on_are_there() -> None:
    assert [name for package, names in GROUND.items() for name in names - folders()[Path(package)]] == []


def test_every_folder_says_what_it_is() -> None:
    for folder, entries in folders().items():
        if any(entry.endswith(".py") for entry in entries):
            assert "__init__.py" in entries, f"{folder} is no package"
            assert ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())), f"{folder} says nothing"


@pytest.mark.parametrize("test", mirrors(), ids=str)
def test_unit_tests_mirror_the_folders(test: Path) -> None:
    shared = ROOT / "tests" / "unit" / test.parent / "conftest.py"
    texts = [ROOT / "tests" / "unit" / test, *([shared] if shared.is_file() else [])]
    assert test.parent in folders(), f"no package has a folder {test.parent}"
    assert any(is_at_home(test.parent, text.read_text()) for text in texts), f"{test} tests nothing of {test.parent}/"


@pytest.mark.parametrize(
    ("folder", "text", "at_home"),
    [
        ("worker/storage", "from worker.storage.crops import CropStore", True),
        ("worker/storage", "from worker.storage import remote", True),
        ("worker/ingest", "from worker.ingest import discover", True),
        ("worker/cli", "main = import_module('worker.cli.main')", True),
        ("worker/storage", "from worker.errors import FacetError", False),
        ("worker", "from worker.storage.crops import CropStore", False),
        ("worker", "from worker import storage", False),
        ("worker/identity", "from worker.identity.grouping.edges import Edges", False),
        ("worker/crops", "from worker.storage.crops import CropStore", False),
    ],
)
def test_a_stray_test_is_noticed(folder: str, text: str, *, at_home: bool) -> None:
    assert is_at_home(Path(folder), text) is at_home
