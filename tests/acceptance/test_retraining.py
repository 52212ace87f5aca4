"""docs/releases.md: the way from labels to switched views runs as it is written, on a few faces."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from db.server.embedded import EmbeddedPostgres
from tests.acceptance.made_faces import AGES, SPLITS, write_labelled, write_photos

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "releases.md"
BLOCK = re.compile(r"## From labels to switched views\n.*?```sh\n(.*?)```", re.DOTALL)
ARCHIVE = 60
SECONDS = 240  # of one command
KEEP_SECONDS = 60  # the database stays up between two commands, as it does for a reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def commands() -> list[str]:
    return BLOCK.search(PAGE.read_text(encoding="utf-8")).group(1).strip().splitlines()


class Shell:
    """Runs commands of the page in one folder with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
        fixed = {"FACET_HOME": str(folder / "home"), "FACET_DATABASE_KEEP_SECONDS": str(KEEP_SECONDS)}
        self.environment = inherited | fixed | {"PATH": path, "PYTHONPATH": str(ROOT)}

    def __call__(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, check=False, capture_output=True, text=True,
            timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, query: str) -> list[dict[str, object]]:
        return json.loads(self(f'facet sql "{query}" --format json'))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Return a folder with labelled faces, and an archive that was analysed under the shipped release."""
    write_labelled(tmp_path / "data", SPLITS, AGES)
    write_photos(tmp_path / "archive", range(ARCHIVE))
    found = Shell(tmp_path)
    found("facet analyze archive --name faces")
    yield found
    EmbeddedPostgres(tmp_path / "home" / "postgres").stop()


def test_the_way_from_labels_to_switched_views(shell: Shell) -> None:
    ages = "SELECT face_id, age FROM faces WHERE age IS NOT NULL ORDER BY face_id"
    others = "SELECT face_id, gender, emotion, ethnicity, person_id FROM faces ORDER BY face_id"
    before, kept = shell.ask(ages), shell.ask(others)
    printed = {}
    shown = []
    for command in commands():
        printed[command] = shell(command)
        shown.append(shell.ask(ages))
    by_word = {command.split(" --")[0].removeprefix("facet "): text for command, text in printed.items()}
    assert "verdict: worse than default in none" in by_word["facet-train train frozen"]
    assert f"{len(before)} faces" in printed["facet reprocess --dry-run"]
    until = next(number for number, command in enumerate(commands()) if command.startswith("facet releases activate"))
    assert all(rows == before for rows in shown[:until]), "nothing is switched before"
    after = shown[until]
    assert [row["face_id"] for row in after] == [row["face_id"] for row in before]
    assert sum(row["age"] != old["age"] for row, old in zip(after, before, strict=True)) > 0.9 * len(before)
    assert shown[until + 1] == before, "rolled back"
    assert shown[until + 2] == after
    assert shell.ask(others) == kept, "everything else is shared"
    for page in ("sample.html", "all.html"):
        assert "data:image/png;base64" in (shell.folder / page).read_text(encoding="utf-8")
    history = json.loads(shell("facet releases show ages --json"))["history"]
    assert [entry["action"] for entry in history] == ["register", "activate", "rollback", "activate"]
    assert history[1]["reason"] == "ages of the new labels"
    assert "lacks nothing" in shell("facet reprocess --release ages")
