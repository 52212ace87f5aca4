"""The table for readers, from made figures."""

from __future__ import annotations

from training.evaluate.evaluate import Evaluation
from training.evaluate.findings import Row
from training.evaluate.metrics import Figure
from training.evaluate.recalls import BALANCED, RECALL
from training.evaluate.report.summary import reader_table
from training.evaluate.scores import COVERAGE


def row(data, task, measure, value, group="all", count=100):
    return Row(data, task, measure, Figure(value, value - 0.01, value + 0.01, count), group)


def lines(*rows):
    return reader_table(Evaluation("made", "0", "test", (), rows)).splitlines()[2:]


def test_a_head_is_shown_at_its_best_at_its_worst_and_elsewhere():
    (line,) = lines(
        row("ferplus", "emotion", BALANCED, 0.7),
        row("ferplus", "emotion", RECALL, 0.3, "fear"),
        row("ferplus", "emotion", RECALL, 0.9, "neutral"),
        row("ferplus", "emotion", RECALL, 0.0, "contempt", count=4),
        row("fer2013", "emotion, degraded", BALANCED, 0.5),
        row("fer2013", "emotion, by degradation", BALANCED, 0.4, "24 px"),
        row("fer2013", "emotion, by degradation", BALANCED, 0.6, "grey"),
        row("film_faces", "emotion", BALANCED, 0.272),
        row("film_faces", "emotion", "accuracy", 0.9),
    )
    assert line == (
        "| emotion | balanced accuracy | 70.0 % (69.0-71.0) | 50.0 % (49.0-51.0) | 24 px 40.0 % | fear 30.0 % "
        "| film_faces 27.2 % |"
    )


def test_the_worst_interval_is_the_one_furthest_from_its_range():
    (line,) = lines(
        row("utkface", "age", COVERAGE, 0.8),
        row("utkface", "age", COVERAGE, 0.7, "60+"),
        row("utkface", "age", COVERAGE, 0.95, "0-17"),
        row("utkface", "age", COVERAGE, 0.2, "male / White / 60+"),
    )
    assert "| 0-17 95.0 % |" in line


def test_larger_errors_are_worse_and_nothing_measured_makes_no_table():
    (line,) = lines(
        row("utkface", "age", "mean absolute error", 4.0),
        row("utkface", "age", "mean absolute error", 6.0, "60+"),
        row("utkface", "age", "mean absolute error", 2.0, "0-17"),
    )
    assert "| 60+ 6.00 |" in line
    assert lines() == []
