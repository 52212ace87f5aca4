"""Anchors of corrections: after another analysis, the face of about the same time and place is the one."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from worker.identity import correct
from worker.identity.corrections.anchors import read_corrections
from worker.identity.corrections.history import read_history
from worker.identity.gallery import Gallery, lock_people
from worker.identity.identifier import identify_pending


def find_again(crowd, move, seconds, step=0.5):
    """Name a person, analyse the file again with all faces moved; return the correction as it is found."""
    session = crowd.session
    media_id = crowd.photo(0)
    lock_people(session)
    while identify_pending(session, Gallery(crowd.trunk_id)):
        pass
    correct.name_people(session, [correct.NewName(crowd.who()[media_id, 0], "Ada")])
    crowd.analyse(media_id)
    session.execute(
        text("""UPDATE face SET x1 = x1 + :x, x2 = x2 + :x, y1 = y1 + :y, y2 = y2 + :y, at_seconds = at_seconds + :s
                WHERE analysis_id = (SELECT max(analysis_id) FROM analysis)"""),
        {"x": move[0], "y": move[1], "s": seconds},
    )
    session.execute(text("UPDATE analysis SET sample_interval_seconds = :step"), {"step": step})
    (found,) = read_corrections(session, crowd.trunk_id)
    current = session.scalars(
        text("SELECT appearance_id FROM appearance JOIN analysis USING (analysis_id) WHERE is_current")
    ).all()
    assert found.subject.tolist() in ([], current)
    assert found.lost == (not len(found.subject))
    return len(found.subject) == 1


# Boxes of 100 x 100 pixels: moved by 50 they overlap by a third, by 60 by a quarter.
@pytest.mark.parametrize("move", [(0, 0), (50, 0), (-50, 0), (0, 50), (0, -50), (30, 30), (-30, 30)])
def test_a_face_that_overlaps_by_three_tenths_is_the_same(crowd, move):
    assert find_again(crowd, move, 0.0)


@pytest.mark.parametrize("move", [(60, 0), (-60, 0), (0, 60), (0, -60), (40, 40), (140, 140), (-140, 0)])
def test_a_face_elsewhere_is_another_one(crowd, move):
    assert not find_again(crowd, move, 0.0)


@pytest.mark.parametrize(
    ("seconds", "step", "found"),
    [(0.5, 0.5, True), (-0.5, 0.5, True), (0.6, 0.5, False), (-0.6, 0.5, False), (1.9, 2.0, True), (-1.9, 2.0, True),
     (2.1, 2.0, False), (0.5, 0.1, True)],
)  # fmt: skip
def test_a_face_is_sought_within_a_sampling_step_and_half_a_second_at_least(crowd, seconds, step, found):
    assert find_again(crowd, (0, 0), seconds, step) is found


def test_the_history_counts_the_appearances_that_a_correction_is_about(crowd):
    session = crowd.session
    for _ in range(4):
        crowd.photo(0)
    lock_people(session)
    while identify_pending(session, Gallery(crowd.trunk_id)):
        pass
    (person,) = set(crowd.who().values())
    correct.split_person(session, person, crowd.ids(person)[:1], reason="the twin")
    (past,) = read_history(session)
    assert (past.kind, past.appearances, past.lost, past.reason) == ("split", 1, 0, "the twin")
