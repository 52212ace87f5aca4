"""What the documents say is true where a machine can tell: links, commands, make targets, sizes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README_LINES = 150
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")
PLACE = re.compile(r"`((?:worker|models|training|db|tests|docs|benchmarks)/[\w./-]*|[A-Z]+\.md|pyproject\.toml)`")
MAKE_COMMAND = re.compile(r"(?:^|`)make ([a-z-]+)", re.MULTILINE)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", read(ROOT / "Makefile"), re.MULTILINE))


def test_the_readme_is_one_sitting() -> None:
    assert 0 < len(read(ROOT / "README.md").splitlines()) <= README_LINES


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = [target for target in LINK.findall(read(document)) if "://" not in target]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_folders_exist(document: Path) -> None:
    assert [place for place in PLACE.findall(read(document)) if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_commands_exist(document: Path) -> None:
    assert set(MAKE_COMMAND.findall(read(document))) <= make_targets()


def test_every_make_target_explains_itself() -> None:
    rules = set(re.findall(r"^([a-z-]+):(?!=)", read(ROOT / "Makefile"), re.MULTILINE))
    assert rules == make_targets()


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["version"]
    changelog = read(ROOT / "CHANGELOG.md")
    assert "## [Unreleased]" in changelog
    assert f"## [{version}]" in changelog


def test_constraints_name_every_dependency() -> None:
    """A dependency without a pinned version would make two set-ups differ."""
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *(d for group in project["optional-dependencies"].values() for d in group)]
    pinned = {canonical(line.split("==")[0]) for line in read(ROOT / "constraints.txt").splitlines() if "==" in line}
    assert [d for d in wanted if canonical(re.split(r"[<>=\[;!~ ]", d)[0]) not in pinned] == []


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
