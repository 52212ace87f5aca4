"""`make demo`, the first command that a newcomer types after `make setup`, does what the README shows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]


def make_demo(folder: Path) -> str:
    """Run it, and return what it printed; a make that runs this test must not reach the one that is run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "demo", f"DEMO={folder}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def row(printed: str, title: str) -> list[str]:
    """Return the cells of the line of a table that begins with a title."""
    lines = [line.strip("│ \n").split("│") for line in printed.splitlines()]
    return next([cell.strip() for cell in cells] for cells in lines if cells[0].strip() == title)


def test_two_women_are_found_in_pictures_and_film(tmp_path: Path) -> None:
    first = make_demo(tmp_path)
    assert row(first, "people") == ["people", "2"]
    assert row(first, "rejected") == ["rejected", "2"]
    assert row(first, "pending") == ["pending", "0"]
    assert first.count("two-pioneers.mp4") >= 3, "the film has three appearances"
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width > 200

    second = make_demo(tmp_path)
    assert row(second, "people") == ["people", "2"]
    assert row(second, "appearances") == row(first, "appearances")
