"""The drawings of docs/architecture.md: the tables are those of the schema, and each SVG was drawn from its source."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

import db.schema.tables  # noqa: F401 - fills the metadata
from db.base import Base

FIGURES = Path(__file__).resolve().parents[3] / "docs" / "figures"
DRAWINGS = sorted(FIGURES.glob("*.dot"))
NODE = re.compile(r"^ +(\w+) \[", re.MULTILINE)
ARROW = re.compile(r"^ +(\w+) -> (\w+)", re.MULTILINE)
TITLE = re.compile(r"<title>(.*?)</title>")
NO_NODES = {"graph", "node", "edge"}


def source(name: str) -> str:
    return (FIGURES / f"{name}.dot").read_text(encoding="utf-8")


def nodes(text: str) -> set[str]:
    return set(NODE.findall(text)) - NO_NODES


def arrows(text: str) -> set[tuple[str, str]]:
    return set(ARROW.findall(text))


def words(markup: str) -> set[str]:
    """Return the words that a label or an SVG shows."""
    return set(unescape(re.sub(r"<[^<>]*>", " ", markup)).replace("\xa0", " ").split())


def test_the_tables_of_the_drawing_are_those_of_the_schema() -> None:
    assert nodes(source("tables")) == {table.name for table in Base.metadata.sorted_tables}


def test_the_arrows_of_the_drawing_are_the_foreign_keys() -> None:
    keys = {
        (table.name, key.referred_table.name)
        for table in Base.metadata.sorted_tables
        for key in table.foreign_key_constraints
    }
    assert arrows(source("tables")) == keys


def test_the_columns_of_the_drawing_are_those_of_the_schema() -> None:
    for table in Base.metadata.sorted_tables:
        (label,) = re.findall(rf"^ +{table.name} \[label=<(.*)>\]$", source("tables"), re.MULTILINE)
        shown = re.findall(r'<font point-size="9.5">([^<]+)</font>', label)
        named = {name for cell in shown for name in cell.split(", ")} - {"...", "box"}
        assert named <= {column.name for column in table.columns}, table.name


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda path: path.stem)
def test_each_svg_is_drawn_from_its_source(drawing: Path) -> None:
    text, svg = drawing.read_text(encoding="utf-8"), drawing.with_suffix(".svg").read_text(encoding="utf-8")
    titles = {unescape(title) for title in TITLE.findall(svg)}
    drawn = {title for title in titles if "->" not in title and not title.startswith("cluster_")} - {drawing.stem}
    assert drawn == nodes(text)
    assert {tuple(title.split("->")) for title in titles if "->" in title} == arrows(text)
    labels = " ".join(re.findall(r"label=<(.*)>[\];]", text))
    missing = words(labels) - words(svg)
    assert not missing, f"draw it again, as the first lines of {drawing.name} say: {missing}"


def test_there_are_drawings_to_check() -> None:
    assert {drawing.stem for drawing in DRAWINGS} >= {"processes", "tables"}
