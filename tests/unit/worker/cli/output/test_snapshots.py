"""Every table at four widths is what its snapshot shows; FACET_REWRITE_SNAPSHOTS=1 writes them again."""

from __future__ import annotations

import ast
import inspect
import os
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.unit.worker.cli.output.conftest import SAMPLES
from worker.cli.output.rows import Rows

HERE = Path(__file__).parent
CLI = Path(inspect.getfile(Rows)).parents[1]
WIDTHS = (60, 80, 120, 200)
MESSAGES = ("Ask:", "(compared", "people affected", "proposal", "coverage, own", "job ")
"""Lines below tables, which a terminal wraps by itself."""
DRAWERS = {"table", "print_rows", "rows_of"}


@pytest.fixture(autouse=True)
def somewhere_else(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def drawn(name: str, width: int, monkeypatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    sample = SAMPLES[name]
    sample.draw(monkeypatch) if sample.needs_patch else sample.draw()
    return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_table_is_what_its_snapshot_shows(name, monkeypatch, capsys):
    pages = [f"=== {width} columns\n{drawn(name, width, monkeypatch, capsys)}\n" for width in WIDTHS]
    snapshot = HERE / "snapshots" / f"{name}.txt"
    if os.environ.get("FACET_REWRITE_SNAPSHOTS"):
        snapshot.write_text("\n".join(pages), encoding="utf-8")
    assert "\n".join(pages) == snapshot.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, *WIDTHS])
@pytest.mark.parametrize("name", SAMPLES)
def test_no_line_is_wider_than_the_terminal(name, width, monkeypatch, capsys):
    lines = drawn(name, width, monkeypatch, capsys).splitlines()
    tables = [line for line in lines if not line.startswith(MESSAGES)]
    assert max(map(cell_len, tables)) <= width


def test_there_is_no_snapshot_without_a_table():
    assert {path.stem for path in (HERE / "snapshots").glob("*.txt")} == set(SAMPLES)


def test_every_function_that_draws_a_table_has_a_snapshot(monkeypatch, capsys):
    seen = set()
    make = Rows.__init__

    def note(self, *arguments, **options):
        frame = inspect.currentframe()
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(CLI) and path.parent.name != "output":
                seen.add((str(path.relative_to(CLI)), frame.f_code.co_name))
            frame = frame.f_back
        make(self, *arguments, **options)

    monkeypatch.setattr(Rows, "__init__", note)
    for name in SAMPLES:
        drawn(name, 80, monkeypatch, capsys)
    drawing = {(str(path.relative_to(CLI)), name) for path in CLI.rglob("*.py") for name in functions_that_draw(path)}
    assert len(drawing) >= 14
    assert drawing <= seen


def functions_that_draw(path: Path) -> set[str]:
    if path.parent.name == "output":
        return set()
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if any(_draws(node) for node in ast.walk(function))}


def _draws(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DRAWERS
