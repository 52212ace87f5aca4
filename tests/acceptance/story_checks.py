"""Comparisons of the report of a switch with counts of the rows, for ``test_story.py``."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.acceptance.test_story import Deployment

ROWS = """
    SELECT p.face_id, c.task, p.label, p.value FROM facet.prediction p JOIN facet.release_reading c USING (reading_id)
    JOIN facet.release r USING (release_id) WHERE r.name = :name"""


def assert_only_ages_differ(after: list[Any], before: list[Any]) -> None:
    ages = ("age", "age_low", "age_high")
    kept = [[value for name, value in row._asdict().items() if name not in ages] for row in (*after, *before)]
    assert kept[: len(after)] == kept[len(after) :]
    assert sum(new.age != old.age for new, old in zip(after, before, strict=True)) > 0.9 * len(before)


def rows_of(deployment: Deployment, name: str, head: str) -> dict[int, Any]:
    return {row.face_id: row for row in deployment.ask(ROWS + " AND c.task = :head", name=name, head=head)}


def assert_diff_is_right(deployment: Deployment, before: str, after: str, head: str) -> None:
    """Compare the report with what this function counts itself."""
    found = json.loads(deployment.facet("releases", "diff", before, after, "--json").stdout)
    (mine,) = [one for one in found["heads"] if not one["is_shared"]]
    old, new = (rows_of(deployment, name, head) for name in (before, after))
    assert old.keys() == new.keys()
    assert len(old) == found["faces"]["before"] > 0
    pairs = [(old[face], new[face]) for face in sorted(old)]
    changed = [one.label != other.label or abs((other.value or 0) - (one.value or 0)) >= 1 for one, other in pairs]
    assert (mine["head"], found["covered"]) == (head, 1.0)
    counts = {"unchanged": len(pairs) - sum(changed), "changed": sum(changed), "new": 0, "vanished": 0, "missing": 0}
    assert {name: mine[name] for name in counts} == counts
    assert counts["changed"] > 0
    table = Counter((one.label, other.label) for one, other in pairs if one.label)
    assert {(one["before"], one["after"]): one["faces"] for one in mine["table"]} == table
    groups = {one["group"]: one for one in found["drift"] if one["head"] == head}
    assert groups["all"]["faces"] == len(pairs)
    assert groups["all"]["changed"]["value"] == pytest.approx(sum(changed) / len(pairs))
    if head == "gender":
        assert set(table) == {("female", "male")}, "every label is turned round"
        assert mine["shift"] is None
        return
    shifts = [other.value - one.value for one, other in pairs]
    assert mine["shift"]["faces"] == len(pairs)
    assert mine["shift"]["mean"] == pytest.approx(statistics.mean(shifts), abs=1e-4)
    assert mine["shift"]["deviation"] == pytest.approx(statistics.stdev(shifts), abs=1e-4)
    assert mine["shift"]["quantiles"] == pytest.approx(np.quantile(shifts, [0.05, 0.5, 0.95]).tolist(), abs=1e-4)
    assert groups["all"]["shift"]["value"] == pytest.approx(statistics.mean(shifts), abs=1e-4)
    assert_groups_are_right(deployment, groups, pairs)


def assert_groups_are_right(deployment: Deployment, groups: dict[str, Any], pairs: list[tuple[Any, Any]]) -> None:
    """Compare the groups by age under the old release with what this function counts itself."""
    shifts: dict[str, list[float]] = {"age 30 to 40": [], "age 70 and more": []}
    for one, other in pairs:
        shifts["age 70 and more" if one.value >= 70 else "age 30 to 40"].append(other.value - one.value)
        assert 30 <= one.value < 40 or one.value >= 70
    for group, values in shifts.items():
        assert groups[group]["faces"] == len(values) >= 100
        assert groups[group]["shift"]["value"] == pytest.approx(statistics.mean(values), abs=1e-4)
        half = 1.96 * statistics.stdev(values) / len(values) ** 0.5
        assert groups[group]["shift"]["high"] == pytest.approx(statistics.mean(values) + half, abs=1e-3)


def assert_changes_are_right(deployment: Deployment, other: str) -> None:
    """Compare the views of changes, which look from the active release to another, with a count of rows."""
    active = deployment.value("SELECT name FROM release WHERE active")
    mine, theirs = rows_of(deployment, active, "age"), rows_of(deployment, other, "age")
    shown = deployment.ask("SELECT face_id, shift, change FROM release_changes WHERE release = :name AND head = 'age'",
                           name=other)  # fmt: skip
    assert {row.face_id for row in shown} == mine.keys()
    for row in shown:
        shift = theirs[row.face_id].value - mine[row.face_id].value
        assert row.shift == pytest.approx(shift, abs=1e-4)  # of 32-bit values
        assert row.change == ("changed" if abs(shift) >= 1 else "unchanged")
    drift = deployment.ask(
        "SELECT faces, changed FROM release_drift WHERE release = :name AND head = 'age'", name=other
    )
    assert sum(row.faces for row in drift) == len(shown)
    assert sum(row.changed for row in drift) == sum(row.change == "changed" for row in shown)
