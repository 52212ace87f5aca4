"""The fairness gate on made evaluations: chance passes, a harmed group does not, however good the mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from training.cli.main import app
from training.errors import DataError
from training.evaluate.evaluate import Evaluation
from training.evaluate.findings import Row
from training.evaluate.metrics import measure_mean
from training.evaluate.outcomes import Outcomes
from training.evaluate.recalls import BALANCED, RECALL, recall_findings
from training.evaluate.report.compare import WORST, compare, comparison_table
from training.evaluate.scores import COVERAGE, group_rows

PLACE = ("utkface", "gender", "accuracy")
FILES = [f"{n}.jpg" for n in range(1000)]
GROUPS = {"a": np.arange(1000) < 700, "b": np.arange(1000) >= 700, "few": np.arange(1000) < 5}


def evaluation(name, correct, place=PLACE, *, higher=True):
    rows = (Row(*place, measure_mean(correct)), *group_rows(place, correct, GROUPS))
    outcome = Outcomes.of(place, correct, FILES, GROUPS, higher_is_better=higher)
    return Evaluation(name, "0" * 64, "test", (), rows, outcomes=(outcome,))


def outcomes(share_a, share_b, seed=0):
    random = np.random.default_rng(seed).random(1000)
    return random < np.where(GROUPS["a"], share_a, share_b)


BEFORE = evaluation("before", outcomes(0.9, 0.9))


def harmed(found):
    return {one.group for one in found.worse}


def test_chance_is_no_harm():
    found = compare(BEFORE, evaluation("after", outcomes(0.9, 0.9, seed=1)))
    assert harmed(found) == set()
    assert all(one.paired for one in found.differences)


def test_a_harmed_group_is_found_though_the_mean_grows():
    found = compare(BEFORE, evaluation("after", outcomes(0.97, 0.82)))
    assert {"b", WORST} <= harmed(found)
    assert "all" not in harmed(found)
    assert "| worse |" in comparison_table(found)


def test_pairs_show_what_independent_figures_cannot():
    after = evaluation("after", outcomes(0.9, 0.86))
    assert "b" in harmed(compare(BEFORE, after))
    apart = compare(replace(BEFORE, outcomes=()), after)
    assert harmed(apart) == set()
    assert not any(one.paired for one in apart.differences)


def test_other_faces_are_not_paired():
    moved = replace(BEFORE.outcomes[0], rows_sha256="1")
    assert not any(one.paired for one in compare(BEFORE, replace(BEFORE, outcomes=(moved,))).differences)


def test_groups_of_a_few_faces_are_shown_and_not_judged():
    correct = outcomes(0.9, 0.9)
    correct[:5] = False
    found = compare(BEFORE, evaluation("after", correct))
    few = next(one for one in found.differences if one.group == "few")
    assert (few.gain.high < 0, few.worse) == (True, False)
    assert "too few" in comparison_table(found, every=True)


def test_larger_errors_are_worse():
    place = ("utkface", "age", "mean absolute error")
    random = np.random.default_rng(0)
    errors = random.exponential(4, 1000).astype(np.float32)
    before = evaluation("before", errors, place, higher=False)
    after = evaluation("after", errors + np.where(GROUPS["b"], 0.5, -0.5).astype(np.float32), place, higher=False)
    assert {"b"} <= harmed(compare(before, after))
    assert "a" not in harmed(compare(before, after))


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [(0.8, 0.7, True), (0.8, 0.9, True), (0.65, 0.79, False), (0.79, 0.81, False), (0.95, 0.85, False)],
)
def test_an_interval_is_worse_that_holds_too_few_or_too_many(before, after, worse):
    place = ("utkface", "age", COVERAGE)
    held = [np.arange(1000) % 100 < 100 * share for share in (before, after)]
    found = compare(evaluation("before", held[0], place), evaluation("after", held[1], place))
    assert {one.group for one in found.differences} == {"all", *GROUPS, WORST}
    assert harmed(found) - {"b"} == ({"all", "a", WORST} if worse else set())
    worst = next(one for one in found.differences if one.group == WORST)
    assert (worst.before, worst.after) == (pytest.approx(before, abs=0.01), pytest.approx(after, abs=0.01))


def test_a_class_that_is_found_less_often_is_worse_though_the_accuracy_grows():
    truth = np.arange(1000) >= 950
    rows = [np.where(truth, np.arange(1000) % 10 < share, np.arange(1000) % 100 < 100 * most)
            for share, most in ((8, 0.9), (3, 0.96))]  # fmt: skip
    found = [
        recall_findings(
            ("ferplus", "emotion", BALANCED), ("usual", "rare"), (truth == right).astype(int), truth.astype(int), FILES
        )
        for right in rows
    ]
    made = [Evaluation(name, "0", "test", (), one.rows, outcomes=one.outcomes)
            for name, one in zip(("before", "after"), found, strict=True)]  # fmt: skip
    judged = {(one.measure, one.group): one for one in compare(*made).differences}
    assert judged[RECALL, "rare"].worse
    assert judged[RECALL, WORST].worse
    assert judged[BALANCED, "all"].worse
    assert judged[BALANCED, "all"].paired
    assert judged[BALANCED, "all"].gain.value == pytest.approx((-0.5 + 0.06) / 2, abs=0.01)
    assert not judged[RECALL, "usual"].worse


def test_nothing_in_common_is_refused():
    with pytest.raises(DataError, match="nothing in common"):
        compare(BEFORE, replace(BEFORE, rows=()))


def test_the_command_refuses_a_worse_release_unless_it_is_allowed(tmp_path):
    after = evaluation("after", outcomes(0.97, 0.82))
    for name, found in (("before", BEFORE), ("after", after)):
        (tmp_path / name).write_text(found.to_json())
    arguments = ["compare", str(tmp_path / "before"), str(tmp_path / "after")]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 1
    assert "utkface, gender, b: accuracy" in refused.output
    assert CliRunner().invoke(app, [*arguments, "--allow-worse"]).exit_code == 0
    same = CliRunner().invoke(app, [*arguments[:2], arguments[1], "--all"])
    assert same.exit_code == 0
    assert "for no group" in same.output
