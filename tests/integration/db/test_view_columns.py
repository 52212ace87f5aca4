"""Queries of users depend on the columns of views: none goes or changes its type without a line in the changelog."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import psycopg
import pytest

from db.reader.describe import describe_columns
from db.reader.run_query import run_query
from db.schema import migrate
from db.schema.views import VIEWS

NOTED = Path(__file__).with_name("view_columns.csv")
CHANGELOG = Path(__file__).resolve().parents[3] / "CHANGELOG.md"


def announced(changelog):
    """Return the columns that the unreleased section names under Changed or Removed, as `view.column`."""
    unreleased = changelog.partition("## [Unreleased]")[2].partition("\n## [")[0]
    sections = re.findall(r"^### (?:Changed|Removed)\n(.*?)(?=^### |\Z)", unreleased, re.DOTALL | re.MULTILINE)
    return {name for section in sections for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", section)}


def broken(noted, found):
    """Return the columns that are not there any more, or have another type."""
    return {name for name, kind in noted.items() if found.get(name) != kind}


@pytest.fixture(scope="module")
def found(archive_url):
    columns = {}
    for view in VIEWS:
        with describe_columns(archive_url, view) as rows:
            columns |= {f"{view}.{name}": kind for name, kind, _ in rows}
    return columns


@pytest.fixture(scope="module")
def noted():
    with NOTED.open(encoding="utf-8", newline="") as stream:
        return dict(csv.reader(stream))


def test_no_column_goes_or_changes_its_type_unannounced(found, noted):
    assert len(noted) > 100
    assert broken(noted, found) <= announced(CHANGELOG.read_text(encoding="utf-8"))


def test_every_column_is_noted(found, noted):
    """A new one is promised from then on; FACET_REWRITE_DOCS adds it, and removes none."""
    if os.environ.get("FACET_REWRITE_DOCS"):
        gone = announced(CHANGELOG.read_text(encoding="utf-8")) & broken(noted, found)
        kept = {name: kind for name, kind in noted.items() if name not in gone}
        with NOTED.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(sorted((found | kept).items()))
        pytest.skip(f"{NOTED.name} is written again")
    assert found.keys() - noted.keys() == set(), "run this test with FACET_REWRITE_DOCS=1"


def test_a_loss_is_noticed():
    noted = {"people.age": "real", "people.name": "text", "faces.at": "real"}
    assert broken(noted, {"people.age": "numeric", "faces.at": "real", "faces.new": "text"}) == {
        "people.age",
        "people.name",
    }
    changelog = (
        "## [Unreleased]\n\n### Added\n\n- `faces.at`\n\n### Changed\n\n- `people.age` is numeric.\n"
        "\n### Removed\n\n- `people.name`\n\n## [0.1.0]\n\n### Removed\n\n- `media.uri`\n"
    )
    assert announced(changelog) == {"people.age", "people.name"}


def test_the_version_of_the_schema_is_readable(archive_url):
    with run_query(archive_url, "SELECT schema_version()") as rows:
        assert list(rows) == [(migrate.current_state(archive_url).found,)]


def ask(url, query):
    with run_query(url, query) as rows:
        return list(rows)


def test_files_of_a_job_are_listed_with_their_ends(archive_url):
    rows = ask(archive_url, "SELECT uri, status, split_part(reason, ':', 1), is_duplicate FROM files ORDER BY item_no")
    assert rows == [
        ("/archive/1968/parade.mp4", "done", None, False),
        ("/archive/1975/wedding.mp4", "done", None, False),
        ("/archive/1975/group.jpg", "done", None, False),
        ("/archive/1975/landscape.jpg", "done", None, False),
        ("/archive/1968/evil.mp4", "quarantined", "crashed", False),
        ("/archive/1975/later.mp4", "pending", None, False),
        ("/archive/1968/broken.mp4", "rejected", "truncated", False),
        ("/archive/1968/parade.mp4 again", "done", None, True),
    ]
    counted = "SELECT count(*) FILTER (WHERE status = 'done'), count(*) FROM files GROUP BY job_id"
    assert ask(archive_url, counted) == ask(archive_url, "SELECT done, submitted FROM jobs")
    moved = "SELECT location FROM files WHERE location <> uri"
    assert ask(archive_url, moved) == [("/archive/1968/parade.mp4",)]


def test_a_cut_at_the_beginning_makes_no_empty_scene(archive_url):
    query = "SELECT uri, scene_no, start_seconds, end_seconds FROM scenes JOIN media USING (media_id) ORDER BY 1, 2"
    assert ask(archive_url, query) == [
        ("/archive/1968/parade.mp4", 1, 0.0, 4.5),
        ("/archive/1968/parade.mp4", 2, 4.5, None),
        ("/archive/1975/wedding.mp4", 1, 0.0, None),
    ]


def test_the_probabilities_of_a_head_are_those_of_its_labels(archive_url):
    sums = "SELECT head, round(sum(probability)::numeric, 3), count(*) FROM probabilities WHERE face_id = 1 GROUP BY 1"
    assert {head: (float(total), count) for head, total, count in ask(archive_url, sums)} == {
        "age": (1.0, 2), "gender": (1.0, 2), "emotion": (1.0, 3), "attributes": (0.3, 2),
    }  # fmt: skip
    best = """
        SELECT count(*), count(*) FILTER (WHERE abs(b.probability - p.confidence) < 0.001)
        FROM predictions AS p JOIN probabilities AS b USING (face_id, head, label)
        WHERE head = 'emotion'
    """
    [(labelled, equal)] = ask(archive_url, best)
    assert labelled == equal > 10


def test_labels_are_present_from_the_thresholds_of_the_release_on(archive_url):
    present = "SELECT label, probability, present FROM probabilities WHERE face_id = 1 AND head = 'emotion' ORDER BY 2"
    assert {found for _, _, found in ask(archive_url, present)} == {None}, "the release has no thresholds"
    with psycopg.connect(archive_url.replace("+psycopg", "")) as connection:
        connection.execute("""
            UPDATE facet.layer AS l SET spec = spec || '{"thresholds": [0.9, 0.9, 0.05]}'
            FROM facet.active_reading AS a WHERE a.reading_id = l.layer_id AND a.task = 'emotion'
        """)
        [labels] = connection.execute("""
            SELECT k.labels FROM facet.reading_key AS k JOIN facet.active_reading AS a USING (reading_id)
            WHERE a.task = 'emotion'
        """).fetchone()
        found = connection.execute(present.replace("probabilities", "facet.probabilities")).fetchall()
        limits = dict(zip(labels, (0.9, 0.9, 0.05), strict=True))
        assert {label: is_present for label, _, is_present in found} == {
            label: probability >= limits[label] for label, probability, _ in found
        }
        assert len({is_present for _, _, is_present in found}) == 2
        connection.rollback()
