from __future__ import annotations

from dataclasses import replace

import pytest

from models.branches import BranchSpec
from models.manifest import Manifest, Verdict
from training.releases.verdict import judging_sets

FILES = {"trunk.safetensors": "0" * 64, "branch-age.safetensors": "1" * 64, "branch-emotion.safetensors": "2" * 64}
AGE = BranchSpec(task="age", kind="age", labels=("0", "1"), depths=("embedding",))
EMOTION = BranchSpec(task="emotion", kind="softmax", labels=("a", "b"), depths=("embedding",))
BASE = Manifest(name="base", branches=(AGE, EMOTION), files=FILES)
AGE_SETS = ("utkface", "fairface", "adience", "celeba10k")


@pytest.mark.parametrize(
    ("after", "sets"),
    [
        (replace(BASE, files=FILES | {"branch-age.safetensors": "3" * 64}), AGE_SETS),
        (replace(BASE, branches=(replace(AGE, temperature=2.0), EMOTION)), AGE_SETS),
        (
            replace(BASE, files=FILES | {"branch-emotion.safetensors": "3" * 64}),
            ("fer2013", "celeba10k", "lfw", "film_faces"),
        ),
    ],
    ids=["another age branch", "another reading of age", "another emotion branch"],
)
def test_sets_of_the_heads_that_differ_judge(after: Manifest, sets: tuple[str, ...]) -> None:
    assert judging_sets(BASE, after) == sets


def test_all_sets_judge_another_trunk() -> None:
    after = replace(BASE, files=FILES | {"trunk.safetensors": "3" * 64})
    assert {"utkface", "fer2013", "celeba10k", "lfw", "film_faces"} <= set(judging_sets(BASE, after))


@pytest.mark.parametrize(("judged", "worse", "good"), [(3, (), True), (3, ("x",), False), (0, (), False)])
def test_nothing_judged_is_not_good(judged: int, worse: tuple[str, ...], *, good: bool) -> None:
    made = "2026-01-01T00:00:00+00:00"
    verdict = Verdict(base="b", base_fingerprint="f", judged=judged, worse=worse, data=(), made_at=made)
    assert verdict.is_good is good
