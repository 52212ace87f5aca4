"""The finish stage: stored faces become appearances, and a file that defeats it hurts no other."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from sqlalchemy import text

from worker import ledger, stored_faces
from worker.finish import build_appearances, finish_analysis, store_whole
from worker.joining import HeadSpec, join_unit
from worker.results import FaceChunk, UnitResult
from worker.store import store_unit
from worker.values import HeadRows, MediaInfo

HEADS = {
    "age": HeadSpec(tuple(map(str, range(5))), 0.0),
    "gender": HeadSpec(("female", "male"), 0.6),
    "emotion": HeadSpec(("joy", "anger", "calm"), 0.0),
    "attributes": HeadSpec(("hat", "glasses", "beard", "scarf"), 0.0),
}
SHOWN = """
    SELECT p.ordinal, p.start_seconds, p.end_seconds, p.face_count, f.frame_index, f.face_no, p.quality, p.age,
           p.age_low, p.age_high, p.gender, p.gender_confidence, p.emotion, p.emotion_confidence, p.emotions,
           p.attributes, p.ethnicity, cast(p.embedding AS real[]) AS embedding
    FROM appearance p JOIN face f ON f.face_id = p.best_face_id WHERE p.analysis_id = :id ORDER BY p.ordinal"""
MEMBERS = """
    SELECT f.frame_index, f.face_no, p.ordinal FROM face f LEFT JOIN appearance p USING (appearance_id)
    WHERE f.analysis_id = :id ORDER BY 1, 2"""


def filled(unit, frames, people=3, *, fps=2.0, at=0, seed=0):
    """The result of a unit: people side by side, who change at every tenth frame; every ninth face is dropped."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(people * (1 + (at + frames) // 10), 128))
    result = UnitResult(unit, MediaInfo(kind=unit.kind, format="made", width=640, height=360), frame_count=frames)
    for start in range(at, at + frames, 7):
        index = np.repeat(np.arange(start, min(start + 7, at + frames)), people)
        place = np.tile(np.arange(people), len(index) // people)
        count = len(index)
        embeddings = looks[index // 10 * people + place] + 3.0 * rng.normal(size=(count, 128)) / 128**0.5
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        chunk = FaceChunk(
            frame_index=index,
            at_seconds=index / fps,
            boxes=np.stack([150 * place, 9 + 0 * place, 150 * place + 80, 89 + 0 * place], 1).astype(np.float32),
            landmarks=np.zeros((count, 5, 2), np.float32),
            scores=np.full(count, 0.9, np.float32),
            quality=rng.random(count).astype(np.float32),
            dropped=["profile" if n % 9 == 4 else None for n in range(count)],
            embeddings=embeddings.astype(np.float32),
            frame_size=(640, 360),
        )
        for task, spec in HEADS.items():
            spread = rng.dirichlet(np.ones(len(spec.labels)), count).astype(np.float32)
            ages = 40 + 9 * rng.random(count).astype(np.float32)
            chunk.heads[task] = HeadRows(spec.labels, spread, *([ages, ages - 5, ages + 6] if task == "age" else []))
        result.chunks.append(chunk)
    result.cuts_seconds = [n / fps for n in range(at, at + frames) if n % 10 == 0 and n]
    return result


def leased(archive, units=1, kind="video"):
    archive.add(units=units, kind=kind)
    with archive.sessions.begin() as session:
        session.execute(text("UPDATE analysis SET sample_interval_seconds = 0.5"))
        return ledger.lease_units(session, archive.lease(), units)


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        for name, value in left._mapping.items():
            wanted = right._mapping[name]
            if isinstance(value, (float, list, dict)):
                assert value == pytest.approx(wanted, abs=2e-4), name
            else:
                assert value == wanted, name


def test_a_unit_that_is_a_whole_analysis_gives_what_stored_faces_give(archive):
    (first,), (second,) = leased(archive), leased(archive)
    assert first.is_whole
    with archive.sessions.begin() as session:
        store_unit(session, filled(first, 33), archive.release_id)
        build_appearances(session, first.analysis_id, HEADS)
        result = filled(second, 33)
        store_whole(session, result, archive.release_id, join_unit(result, HEADS))
        shown = [session.execute(text(SHOWN), {"id": unit.analysis_id}).all() for unit in (first, second)]
        members = [session.execute(text(MEMBERS), {"id": unit.analysis_id}).all() for unit in (first, second)]
    assert len(shown[0]) >= 9
    assert_same(*shown)
    assert_same(*members)
    assert {row.ordinal for row in members[0]} >= {0, 1, 2}


@pytest.mark.parametrize("block", [1, 3, 10, 50])
def test_blocks_cut_no_appearance(archive, monkeypatch, block):
    shown, members = [], []
    for faces in (stored_faces.BLOCK_FACES, block):
        monkeypatch.setattr(stored_faces, "BLOCK_FACES", faces)
        units = leased(archive, 2)
        assert not any(unit.is_whole for unit in units)
        with archive.sessions.begin() as session:
            for unit in units[::-1]:
                store_unit(session, filled(unit, 17, at=17 * unit.ordinal), archive.release_id)
            build_appearances(session, units[0].analysis_id, HEADS)
            shown.append(session.execute(text(SHOWN), {"id": units[0].analysis_id}).all())
            members.append(session.execute(text(MEMBERS), {"id": units[0].analysis_id}).all())
    assert_same(*shown)
    assert_same(*members)


def test_memory_does_not_grow_with_the_video(archive, monkeypatch):
    monkeypatch.setattr(stored_faces, "BLOCK_FACES", 200)
    peaks = []
    for frames in (150, 600):
        (unit,) = leased(archive)
        with archive.sessions.begin() as session:
            store_unit(session, filled(unit, frames), archive.release_id)
        with archive.sessions.begin() as session:
            session.execute(text("SELECT 1"))
            tracemalloc.start()
            build_appearances(session, unit.analysis_id, HEADS)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def test_every_face_of_an_image_is_written_once(archive):
    (unit,) = leased(archive, kind="image")
    result = filled(unit, 1)
    with archive.sessions.begin() as session:
        store_whole(session, result, archive.release_id, join_unit(result, HEADS))
        finish_analysis(session, unit.analysis_id, HEADS, is_joined=True)
    with archive.sessions.begin() as session:
        rows = session.execute(text("SELECT ctid::text, appearance_id FROM face ORDER BY face_id")).all()
        state = session.execute(text("SELECT state, is_current FROM analysis")).one()
    places = [tuple(map(int, row.ctid.strip("()").split(","))) for row in rows]
    assert all(later[1] == sooner[1] + 1 for sooner, later in pairwise(places))
    assert places[0] == (0, 1)
    assert all(row.appearance_id is not None for row in rows)
    assert tuple(state) == ("done", True)
