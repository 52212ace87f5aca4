"""``facet reprocess`` as a user runs it without a broker; with workers, test_story.py runs it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models import manifest as manifests
from models.release import DEFAULT, write_release
from models.weights import read_weights
from worker.cli.demo import build_photos

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ANSWERED = """
    SELECT count(*) AS faces, count(gender) AS gender, count(emotion) AS emotion
    FROM faces WHERE dropped_reason IS NULL"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    build_photos(folder)
    return folder


@pytest.fixture
def retrained(tmp_path: Path) -> Path:
    """Return the shipped release with other weights of emotion and another reading of gender."""
    shipped = manifests.read_manifest(DEFAULT)
    weights = {name: read_weights(DEFAULT / name, sha256) for name, sha256 in shipped.files.items()}
    file = manifests.branch_file("emotion")
    weights[file] = {name: one * 1.1 if one.dim() > 1 else one for name, one in weights[file].items()}
    branches = tuple(replace(spec, temperature=3.0) if spec.task == "gender" else spec for spec in shipped.branches)
    write_release(tmp_path / "retrained", replace(shipped, name="retrained", branches=branches, files={}), weights)
    return tmp_path / "retrained"


def test_a_release_is_filled_in_and_switched_without_a_broker(facet, photos, retrained):
    facet("analyze", photos, status=1)  # one photo is truncated
    facet("releases", "register", retrained, "--as", "candidate")
    (before,) = facet.rows(ANSWERED)
    shown = json.loads(facet("reprocess", "--dry-run", "--json").stdout)
    assert {way["way"]: way["faces"] for way in shown["ways"]} == {"reading": before["faces"], "crops": before["faces"]}
    assert facet.value("SELECT count(*) FROM jobs") == 1

    assert "expected low, normal or full" in facet("reprocess", "--speed", "slow", status=2).stderr
    assert "no face fits" in facet("reprocess", "--where", "quality > 2", status=2).stderr
    assert "facet: " in facet("reprocess", "--where", "nonsense", status=2).stderr
    assert "has no head hat" in facet("reprocess", "--heads", "hat", status=2).stderr

    one = facet("reprocess", "--where", "quality = (SELECT max(quality) FROM faces)", "--heads", "gender").stdout
    assert "1 filled in for release retrained" in one
    status = json.loads(facet("reprocess", "--json").stdout)
    assert (status["kind"], status["release"], status["percent"]) == ("reprocess", "retrained", 100.0)
    assert status["done"] == status["submitted"] > 2 * before["faces"]
    jobs = facet.value("SELECT count(*) FROM jobs")
    assert "release retrained lacks nothing that has a source, so no job was written" in facet("reprocess").stdout
    assert json.loads(facet("reprocess", "--json").stdout) == {"job_id": None, "release": "retrained", "gaps": {}}
    assert facet.value("SELECT count(*) FROM jobs") == jobs
    table = facet("status").stdout
    assert "reprocess retrained" in table

    labels = facet.rows("SELECT face_id, gender_confidence FROM faces WHERE gender IS NOT NULL ORDER BY 1")
    facet("releases", "activate", "retrained", "--force", "--reason", "a test")
    assert facet.rows(ANSWERED) == [before]
    changed = facet.rows("SELECT face_id, gender_confidence FROM faces WHERE gender IS NOT NULL ORDER BY 1")
    assert [row["face_id"] for row in changed] == [row["face_id"] for row in labels]
    assert all(new["gender_confidence"] < old["gender_confidence"] for new, old in zip(changed, labels, strict=True))
