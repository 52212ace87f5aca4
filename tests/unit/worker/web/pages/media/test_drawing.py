"""Lanes and strips: places stay inside the drawing, shares fill it, and colours are those of `facet annotate`."""

from __future__ import annotations

import pytest

from worker.pictures.annotate import PERSON_COLOURS
from worker.web.pages.media.drawing import (
    MIN_WIDTH,
    STRIP_HEIGHT,
    TONES,
    WIDTH,
    age_strip,
    emotion_strip,
    emotion_tone,
    lane_bars,
    person_tone,
)
from worker.web.queries.timeline import Lane, Step, TimeInView
from worker.web.rendering import FOLDER


def lane(*segments):
    return Lane(
        person_id=12, label="Ada", best_face_id=1, screen_seconds=1, appearance_count=1, age=None, gender=None,
        segments=tuple(TimeInView(*one) for one in segments),
    )  # fmt: skip


def test_bars_lie_where_their_time_is():
    first, last, point = lane_bars(lane((0, 25), (75, 100), (99.99, 99.99)), 100)
    assert (first.x, first.width, first.tone) == (0, 250, "tone-2")
    assert (last.x, last.width) == (750, 250)
    assert (point.x, point.width) == (WIDTH - MIN_WIDTH, MIN_WIDTH)  # still seen, and inside


def test_a_face_behind_the_stated_end_stays_inside():
    (bar,) = lane_bars(lane((130, 140)), 100)
    assert 0 <= bar.x <= bar.x + bar.width <= WIDTH


def test_shares_of_emotions_fill_the_strip_without_overlap():
    steps = [
        Step(0, 10, (("sadness", 0.75), ("unknown", 0.25)), None, None, None),
        Step(10, 20, (("happiness", 1.0),), None, None, None),
    ]
    strip = emotion_strip(steps, 20)
    assert [label for label, _ in strip.tones] == ["happiness", "sadness", "unknown"]
    sad, unknown, happy = strip.bars
    assert (sad.y, sad.height) == (0, 0.75 * STRIP_HEIGHT)
    assert (unknown.y, unknown.height) == (sad.height, 0.25 * STRIP_HEIGHT)
    assert (happy.x, happy.height) == (WIDTH / 2, STRIP_HEIGHT)


def test_older_is_higher():
    low, high = (age_strip([Step(0, 1, (), age, age, age)], 1).bars[1].y for age in (10, 80))
    assert high < low
    (beyond, _) = age_strip([Step(0, 1, (), 120, -3, 120)], 1).bars
    assert beyond.y == 0
    assert beyond.y + beyond.height == STRIP_HEIGHT


def test_colours_of_people_are_those_of_annotated_videos():
    sheet = (FOLDER / "static" / "media.css").read_text()
    assert len(PERSON_COLOURS) == TONES
    for number, colour in enumerate(PERSON_COLOURS):
        assert f".{person_tone(number)} {{ --tone: #{bytes(colour).hex()}; }}" in sheet
    assert person_tone(23) == "tone-3"


@pytest.mark.parametrize("label", ["neutral", "unknown", "contempt", "<script>", "a new label"])
def test_every_emotion_has_a_colour(label):
    assert f".{emotion_tone(label)} {{" in (FOLDER / "static" / "media.css").read_text()
