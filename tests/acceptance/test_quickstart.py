"""docs/quickstart.md: its commands run in order, in one shell, and print what the page shows."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from db.server.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "quickstart.md"
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
TABLE_LINES = re.compile("[┏━┳┓┃┡╇┩│└─┴┘]")
SHARE_TOLERATED = 0.05
MIN_TOLERANCE = 0.03
RUN_SECONDS = 240
KEEP_SECONDS = 60
"""The database stays up between two commands, as it does for a reader; and a while behind a run that is killed."""


@dataclass(frozen=True, slots=True)
class Step:
    command: str
    shown: str


def steps(page: str) -> Iterator[Step]:
    """Yield each command (``$``, continued by ``>``) with the lines that follow it."""
    for block in CONSOLE.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            more = list(itertools.takewhile(lambda line: line.startswith("> "), lines[1:]))
            yield Step("\n".join([lines[0], *(line[2:] for line in more)]), "\n".join(lines[1 + len(more) :]))


def lines_of(text: str) -> list[list[str]]:
    """Return the words of each line, without the lines of tables: their widths follow the widest cell."""
    return [words for line in text.splitlines() if (words := TABLE_LINES.sub(" ", line).split())]


def same_word(shown: str, found: str) -> bool:
    if NUMBER.fullmatch(shown) and NUMBER.fullmatch(found) and "." in shown + found:
        return abs(float(shown) - float(found)) <= max(MIN_TOLERANCE, SHARE_TOLERATED * abs(float(shown)))
    return shown == found or ("..." in shown and fnmatchcase(found, shown.replace("[", "[[]").replace("...", "*")))


def same_line(shown: list[str], found: list[str]) -> bool:
    """Compare word by word; ``...`` alone stands for any number of words."""
    if not shown or shown[0] != "...":
        return bool(shown) == bool(found) and (
            not shown or (same_word(shown[0], found[0]) and same_line(shown[1:], found[1:]))
        )
    return any(same_line(shown[1:], found[count:]) for count in range(len(found) + 1))


def first_difference(shown: list[list[str]], found: list[list[str]]) -> str | None:
    """Compare line by line; a line ``...`` stands for any number of lines."""
    for number, line in enumerate(shown):
        if line == ["..."]:
            rest = shown[number + 1 :]
            ends = range(number, len(found) + 1)
            matches = any(first_difference(rest, found[end:]) is None for end in ends)
            return None if matches else f"nothing like {rest} after line {number}"
        if number >= len(found) or not same_line(line, found[number]):
            return f"line {number + 1}: shown {line}, found {found[number] if number < len(found) else 'the end'}"
    return None if len(shown) == len(found) else f"not shown: {found[len(shown)]}"


def run(commands: list[str], folder: Path) -> list[tuple[str, int]]:
    """Run commands in one shell, as a reader types them; return what each printed and its exit status."""
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    marks = [folder / f"status-{number}" for number in range(len(commands))]
    logs = [folder / f"printed-{number}" for number in range(len(commands))]
    script = "\n".join(
        f"(exit $last)\n{{ {command}\n}} > '{log}' 2>&1\nlast=$?; echo $last > '{mark}'"
        for command, log, mark in zip(commands, logs, marks, strict=True)
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")}
    environment |= {"PYTHONPATH": str(ROOT), "FACET_DATABASE_KEEP_SECONDS": str(KEEP_SECONDS)}
    subprocess.run(["bash", "-c", f"last=0\n{script}"], cwd=folder, env=environment, check=True, timeout=RUN_SECONDS)
    return [(log.read_text(), int(mark.read_text())) for log, mark in zip(logs, marks, strict=True)]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Make a folder with a short path: a long one, as pytest's are, folds in the tables."""
    with TemporaryDirectory(prefix="facet-") as folder:
        yield Path(folder)
        EmbeddedPostgres(Path(folder) / "quickstart" / "home" / "postgres").stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_shows_what_its_commands_print(short_path: Path) -> None:
    page = list(steps(PAGE.read_text(encoding="utf-8")))
    assert len(page) >= 15
    results = run([step.command for step in page], short_path)
    for number, (step, (printed, status)) in enumerate(zip(page, results, strict=True)):
        asks_for_status = number + 1 < len(page) and page[number + 1].command == "echo $?"
        assert status == 0 or asks_for_status, f"{step.command} ended with {status}:\n{printed}"
        difference = first_difference(lines_of(step.shown), lines_of(printed))
        assert difference is None, f"{step.command}\n{difference}\nIt printed:\n{printed}"
    for name in ("faces.png", "seen.mp4", "erased.json", "erased-both.json"):
        assert (short_path / "quickstart" / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("│ a │ 38.029 │", "│ a  │ 39.5 │"),
        ("similarity 1", "similarity 0.98"),
        (".../clip.mp4 done", "/a/b/clip.mp4 done"),
        ("3 │ ... │ it", "3 │ 2026-11-28 08:06:06 UTC │ it"),
        ("a\n...\nd", "a\nb\nc\nd"),
        ('"at": "...",', '"at": "2026-11-28T08:08:53+00:00",'),
    ],
)
def test_what_may_differ_is_the_same(shown: str, found: str) -> None:
    assert first_difference(lines_of(shown), lines_of(found)) is None


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("│ a │ 38.029 │", "│ a │ 41.0 │"),
        ("probability 0", "probability 0.04"),
        ("│ 2 │ female │", "│ 3 │ female │"),
        ("│ a │ b │", "│ a │"),
        ("a", "a\nb"),
        ("a\nb", "a"),
        (".../clip.mp4", "/a/film.mp4"),
        ("a\n...\nd", "a\nb\nc"),
    ],
)
def test_what_may_not_differ_is_told(shown: str, found: str) -> None:
    assert first_difference(lines_of(shown), lines_of(found)) is not None
