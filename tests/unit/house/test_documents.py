"""Claims of the documents that a machine can check: links, commands, make targets, sizes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README_LINES = 150
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(([^)\s#]*)#([^)]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
PAGES = sorted((ROOT / "docs").glob("**/*.md"))
PAGE_LINES = 150
LONGER = {"commands.md": "generated", "sql.md": "its columns are generated", "quickstart.md": "shows outputs"}
PACKAGES = ("worker", "models", "training", "db", "benchmarks")
SOURCES = sorted(path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py"))
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
def test_links_lead_to_headings(document: Path) -> None:
    targets = [
        (document.parent / page if page else document, anchor) for page, anchor in ANCHOR.findall(read(document))
    ]
    pages = [(page, anchor) for page, anchor in targets if page.suffix == ".md" and page.exists()]
    assert [f"{page.name}#{anchor}" for page, anchor in pages if anchor not in anchors(page)] == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in HEADING.findall(read(page))]
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT / "docs")))
def test_pages_are_short_or_say_why(page: Path) -> None:
    """How it works fits on a page of 150 lines; tables and experiments are in docs/measured."""
    if page.parent.name != "measured" and page.name not in LONGER:
        assert len(read(page).splitlines()) <= PAGE_LINES


def test_the_index_names_every_page() -> None:
    linked = {(ROOT / "docs" / target).resolve() for target in LINK.findall(read(ROOT / "docs" / "README.md"))}
    assert [page.name for page in PAGES if page.name != "README.md" and page not in linked] == []


def test_every_term_of_the_glossary_is_linked_from_a_page() -> None:
    glossary = ROOT / "docs" / "glossary.md"
    links = [link for page in DOCUMENTS if page != glossary for link in ANCHOR.findall(read(page))]
    linked = {anchor for target, anchor in links if target.endswith("glossary.md")}
    assert len(anchors(glossary)) > 25
    assert anchors(glossary) - {"glossary"} - linked == set()


def test_the_model_card_shows_figures_that_were_measured() -> None:
    """The card holds some rows of the page that facet-train writes, unchanged."""
    card = read(ROOT / "docs" / "model-card.md").split("## Figures")[1]
    shown = [line for line in card.splitlines() if line.startswith("|")]
    measured = read(ROOT / "docs" / "measured" / "default-release.md").splitlines()
    assert len(shown) > 20
    assert [line for line in shown if line not in measured] == []


def test_pages_that_sources_name_exist() -> None:
    named = {(page, path.name) for path in SOURCES for page in re.findall(r"docs/[\w/-]+\.md", read(path))}
    assert [pair for pair in sorted(named) if not (ROOT / pair[0]).exists()] == []


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
