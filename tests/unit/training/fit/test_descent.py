"""Optimisers and courses of the rate, for branches, joint runs and trunks."""

from __future__ import annotations

import pytest
import torch

from training.errors import RecipeError
from training.fit.descent import Descent


def test_the_rate_rises_and_falls_along_a_cosine():
    shares = [Descent().share(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.04)
    assert max(shares) == shares[8] == 1
    assert shares[8:] == sorted(shares[8:], reverse=True)
    assert shares[54] == pytest.approx(0.5)
    assert 0 < shares[-1] < 0.001


def test_the_rate_is_divided_by_four_or_stays():
    quarters = Descent(schedule="quarters", decay_every=10)
    assert [quarters.share(step, 100) for step in (0, 9, 10, 25)] == [1, 1, 0.25, 0.0625]
    assert {Descent(schedule="constant").share(step, 100) for step in range(100)} == {1}


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimisers_take_groups_with_rates_of_their_own(name, kind):
    one, two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    groups = [{"params": list(one.parameters()), "lr": 0.5}, {"params": list(two.parameters())}]
    optimiser = Descent(optimiser=name, momentum=0.8).optimise(groups, 0.1, 0.02)
    assert type(optimiser) is kind
    assert [group["lr"] for group in optimiser.param_groups] == [0.5, 0.1]
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.02}
    assert optimiser.param_groups[0].get("momentum", 0.8) == 0.8


@pytest.mark.parametrize("wrong", [{"decay_every": 0}, {"momentum": 1.0}])
def test_impossible_courses_are_refused(wrong):
    with pytest.raises(RecipeError, match="expected 1 step or more"):
        Descent(**wrong)
