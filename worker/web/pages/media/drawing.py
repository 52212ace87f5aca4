"""Places and colours of what is drawn over and below a video: lanes of people, strips of emotion and age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

from worker.types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.web.queries.timeline import Lane, Step, TimeInView

WIDTH = 1000.0  # of a lane or strip, in units of its own
MIN_WIDTH = 2.5  # of a segment that can still be seen and clicked
STRIP_HEIGHT = 40.0
MAX_AGE = 90.0  # at the upper edge of the strip of ages
TONES = 10
EMOTION_TONES = {
    "neutral": "calm", "happiness": "happy", "happy": "happy", "joy": "happy", "surprise": "surprise",
    "sadness": "sad", "sad": "sad", "anger": "anger", "disgust": "disgust", "fear": "fear", "contempt": "contempt",
    UNKNOWN: "unknown",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, in units of its drawing, with the time that a click leads to."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    """Class of its colour."""
    at_seconds: float
    end_seconds: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Strip:
    """Emotion or age over time."""

    bars: tuple[Bar, ...]
    tones: tuple[tuple[str, str], ...] = ()
    """Labels with the classes of their colours, the commonest first."""


def person_tone(number: int | None) -> str:
    """Return the class of a person's colour, the same as in `facet annotate`."""
    return "tone-none" if number is None else f"tone-{number % TONES}"


def emotion_tone(label: str) -> str:
    """Return the class of an emotion's colour; a label that is not known here has one, too."""
    return f"tone-{EMOTION_TONES[label]}" if label in EMOTION_TONES else f"tone-{crc32(label.encode()) % TONES}"


def lane_bars(lane: Lane, duration_seconds: float) -> list[Bar]:
    """Return the bars of a lane."""
    return [_bar(segment, duration_seconds, person_tone(lane.person_id), lane.label) for segment in lane.segments]


def emotion_strip(steps: Sequence[Step], duration_seconds: float) -> Strip:
    """Return the shares of emotions over time, stacked."""
    seconds: dict[str, float] = {}
    for step in steps:
        for label, share in step.emotions:
            seconds[label] = seconds.get(label, 0.0) + share
    order = sorted(seconds, key=lambda label: (label == UNKNOWN, -seconds[label], label))
    bars = [bar for step in steps for bar in _stacked(step, order, duration_seconds)]
    return Strip(tuple(bars), tuple((label, emotion_tone(label)) for label in order))


def age_strip(steps: Sequence[Step], duration_seconds: float) -> Strip:
    """Return the range of ages in view over time, with a mark at their mean."""
    bars = []
    for step in steps:
        if step.age is None or step.youngest is None or step.oldest is None:
            continue
        x, width = _across(step.start_seconds, step.end_seconds, duration_seconds)
        label = f"{step.age:.0f} y ({step.youngest:.0f} to {step.oldest:.0f})"
        at = step.start_seconds, step.end_seconds
        top, bottom = _age_height(step.oldest), _age_height(step.youngest)
        bars.append(Bar(x, top, width, max(bottom - top, 1.0), "tone-range", *at, label))
        bars.append(Bar(x, _age_height(step.age) - 1.0, width, 2.0, "tone-mean", *at, label))
    return Strip(tuple(bars))


def _stacked(step: Step, order: Iterable[str], duration_seconds: float) -> list[Bar]:
    x, width = _across(step.start_seconds, step.end_seconds, duration_seconds)
    shares, bars, y = dict(step.emotions), [], 0.0
    for label in order:
        height = shares.get(label, 0.0) * STRIP_HEIGHT
        if height:
            words = f"{label} {shares[label]:.0%}"
            bars.append(Bar(x, y, width, height, emotion_tone(label), step.start_seconds, step.end_seconds, words))
            y += height
    return bars


def _bar(segment: TimeInView, duration_seconds: float, tone: str, label: str) -> Bar:
    x, width = _across(segment.start_seconds, segment.end_seconds, duration_seconds)
    return Bar(x, 0.0, width, 1.0, tone, segment.start_seconds, segment.end_seconds, label)


def _across(start: float, end: float, duration_seconds: float) -> tuple[float, float]:
    """Return left edge and width of a time."""
    scale = WIDTH / max(duration_seconds, 0.001)
    width = max((end - start) * scale, MIN_WIDTH)
    left = min(max(start * scale, 0.0), WIDTH - width)
    return round(left, 2), round(width, 2)


def _age_height(age: float) -> float:
    return round(STRIP_HEIGHT * (1 - min(max(age, 0.0), MAX_AGE) / MAX_AGE), 2)
